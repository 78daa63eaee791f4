-- How many milliseconds until an attempt is judged. KEYS: counters.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = 0
for _, key in ipairs(KEYS) do
  left = math.max(left, tonumber(redis.call('HGET', key, 'b') or '0') - now)
end
return left
