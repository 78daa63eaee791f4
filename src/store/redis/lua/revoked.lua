-- What stands in the log from a place on. KEYS: log, at, until. ARGV: place, most.
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local found = {}
for index = 1, #rows, 2 do
  local what = rows[index]
  local at, till = redis.call('ZSCORE', KEYS[2], what), redis.call('ZSCORE', KEYS[3], what)
  if at and till then
    found[#found + 1] = { rows[index + 1], at, till, what }
  end
end
return found
