-- Ends a family unless it began or went on after a time. KEYS: family. ARGV: time.
local rotated = redis.call('HGET', KEYS[1], 'r')
if rotated and tonumber(rotated) <= tonumber(ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
end
return 1
