-- Gives the families of a subject and forgets the list. KEYS: index.
local families = redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('UNLINK', KEYS[1])
return families
