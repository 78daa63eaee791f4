-- Notes until when tokens live, and gives the latest that was noted before. KEYS: outlive.
-- ARGV: until, ttl.
local held = tonumber(redis.call('GET', KEYS[1]) or '0')
local till = string.format('%.0f', math.max(held, tonumber(ARGV[1])))
redis.call('SET', KEYS[1], till, 'KEEPTTL')
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return string.format('%.0f', held)
