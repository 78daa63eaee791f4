-- Forgets revocations that can hit nothing any more. KEYS: log, at, until. ARGV: now.
local dead = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, 5000)
if #dead > 0 then
  for index = 1, 3 do redis.call('ZREM', KEYS[index], unpack(dead)) end
end
return #dead
