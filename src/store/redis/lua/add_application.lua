-- Keeps a new application token; its number, or why not.
-- KEYS: last, tokens, hashes, families, creator. ARGV: token, hash, family, most, most of a creator.
local known = redis.call('HGET', KEYS[3], ARGV[2])
if known then return tonumber(known) end
if redis.call('ZCARD', KEYS[5]) >= tonumber(ARGV[5]) then return -1 end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[4]) then return -2 end
local id = redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[2], id, ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], id)
redis.call('HSET', KEYS[4], ARGV[3], id)
redis.call('ZADD', KEYS[5], id, id)
return id
