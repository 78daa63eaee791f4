-- Application tokens with what has changed about them: number, token, whether it is revoked, and
-- whether it has another description, and which.
-- KEYS: tokens, revoked, texts, then what ARGV[1] asks by: hash (hashes; ARGV[2] the hash), id
-- (none; the number), creator (creator).
local ids
if ARGV[1] == 'hash' then
  local id = redis.call('HGET', KEYS[4], ARGV[2])
  ids = id and { id } or {}
elseif ARGV[1] == 'id' then
  ids = { ARGV[2] }
else
  ids = redis.call('ZRANGE', KEYS[4], 0, -1)
end
local found = {}
for _, id in ipairs(ids) do
  local token = redis.call('HGET', KEYS[1], id)
  if token then
    local text = redis.call('HGET', KEYS[3], id)
    found[#found + 1] = { id, token, redis.call('SISMEMBER', KEYS[2], id), text and 1 or 0, text or '' }
  end
end
return found
