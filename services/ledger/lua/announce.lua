-- Announce a live group again whose entry is gone. KEYS: epoch, groups stream, episodes stream, group
-- ARGV: epoch, id of the entry that is gone, payload for the groups stream, payload for the episodes stream
-- Returns 1; 0 where the group has moved, or was announced, since somebody saw that the entry is gone.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
local announced = { OPEN = 1, GENERATING = 1, COMPLETE = 2 }
local g = redis.call('HMGET', KEYS[4], 'state', 'message')
local stream = announced[g[1]]
if not stream or (g[2] or 'none') ~= ARGV[2] then return 0 end
local id = redis.call('XADD', KEYS[1 + stream], '*', 'p', ARGV[2 + stream])
redis.call('HSET', KEYS[4], 'message', id)
return 1
