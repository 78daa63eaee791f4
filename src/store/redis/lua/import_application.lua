-- Keeps an application token that has its number.
-- KEYS: last, tokens, hashes, families, creator, revoked, texts.
-- ARGV: token, hash, family, number, whether it is revoked.
local id = ARGV[4]
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(id) then redis.call('SET', KEYS[1], id) end
redis.call('HSET', KEYS[2], id, ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], id)
redis.call('HSET', KEYS[4], ARGV[3], id)
redis.call('ZADD', KEYS[5], id, id)
redis.call('HDEL', KEYS[7], id)
redis.call(ARGV[5] == '1' and 'SADD' or 'SREM', KEYS[6], id)
return 1
