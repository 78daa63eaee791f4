-- Begins a family. KEYS: family. ARGV: subject, expires, now, ttl.
redis.call('HSET', KEYS[1], 's', ARGV[1], 'e', ARGV[2], 'g', '0', 'r', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
