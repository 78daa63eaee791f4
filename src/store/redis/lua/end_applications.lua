-- Ends application tokens. KEYS: revoked, then what ARGV[1] means: family (families; ARGV[2] which),
-- creator (creator), all (tokens).
local ids
if ARGV[1] == 'family' then
  local id = redis.call('HGET', KEYS[2], ARGV[2])
  ids = id and { id } or {}
elseif ARGV[1] == 'creator' then
  ids = redis.call('ZRANGE', KEYS[2], 0, -1)
else
  ids = redis.call('HKEYS', KEYS[2])
end
for first = 1, #ids, 5000 do
  redis.call('SADD', KEYS[1], unpack(ids, first, math.min(first + 4999, #ids)))
end
return #ids
