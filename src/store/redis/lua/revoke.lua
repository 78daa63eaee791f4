-- Appends a revocation to the log and tells everybody; nothing if it is there already.
-- KEYS: last, log, at, until. ARGV: what, at, until, now, channel.
-- The place in the log is a time in microseconds: it goes forward even if a failover lost some.
local at, till = tonumber(ARGV[2]), tonumber(ARGV[3])
local held_at = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or '-1')
local held_till = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[1]) or '-1')
if held_at >= at and held_till >= till then return 0 end
at, till = math.max(at, held_at), math.max(till, held_till)
local time = redis.call('TIME')
local place = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if place <= last then place = last + 1 end
local function text(number) return string.format('%.0f', number) end
redis.call('SET', KEYS[1], text(place), 'KEEPTTL')
redis.call('ZADD', KEYS[2], text(place), ARGV[1])
redis.call('ZADD', KEYS[3], text(at), ARGV[1])
redis.call('ZADD', KEYS[4], text(till), ARGV[1])
local dead = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[4], 'LIMIT', 0, 1000)
if #dead > 0 then
  for index = 2, 4 do redis.call('ZREM', KEYS[index], unpack(dead)) end
end
local ttl = math.max(till - tonumber(ARGV[4]), 1)
for index = 1, 4 do
  if redis.call('TTL', KEYS[index]) < ttl then
    redis.call('EXPIRE', KEYS[index], text(math.min(ttl, 3000000000)))
  end
end
redis.call('PUBLISH', ARGV[5], text(at) .. ' ' .. text(till) .. ' ' .. ARGV[1])
return 1
