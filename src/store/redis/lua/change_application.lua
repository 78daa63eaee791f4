-- Changes an application token; whether there is one, of this creator if one is named.
-- KEYS: tokens, revoked, texts, creator if one is named.
-- ARGV: number, whether it ends, whether it gets another description, which.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if KEYS[4] and not redis.call('ZSCORE', KEYS[4], ARGV[1]) then return 0 end
if ARGV[2] == '1' then redis.call('SADD', KEYS[2], ARGV[1]) end
if ARGV[3] == '1' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[4]) end
return 1
