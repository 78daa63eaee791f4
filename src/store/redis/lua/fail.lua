-- Counts a failure, as Throttle does. KEYS: source, account if any.
-- ARGV: free of the source, free of the account, base, max, forget, each; the last four in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local base, most, forget, each = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local function text(number) return string.format('%.0f', number) end
local first = 0
for index, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'n', 't')
  local count, last = tonumber(held[1] or '0'), tonumber(held[2] or now)
  local elapsed = math.max(now - last, 0)
  if index == 1 then
    local back = math.floor(elapsed / each)
    count = math.max(count - back, 0)
    if count == 0 then last = now else last = last + back * each end
  else
    if elapsed > forget then count = 0 end
    last = now
  end
  count = count + 1
  local free, blocked = tonumber(ARGV[index]), 0
  if count > free then blocked = now + math.min(base * 2 ^ (count - free - 1), most) end
  if count == free + 1 then first = 1 end
  redis.call('HSET', key, 'n', text(count), 't', text(last), 'b', text(blocked))
  redis.call('PEXPIRE', key, ARGV[5])
end
return first
