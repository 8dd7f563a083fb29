-- Store one episode; the last one moves GENERATING -> COMPLETE.
-- KEYS: group, episodes, groups stream, episodes stream
-- ARGV: attempt, k, episode payload, complete payload, consumer group of the groups stream. Returns the state.
local g = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'n', 'message')
if g[1] == 'COMPLETE' and g[2] == ARGV[1] then return 'COMPLETE' end
if g[1] ~= 'GENERATING' then return redis.error_reply('REFUSED ' .. (g[1] or 'UNKNOWN')) end
if g[2] ~= ARGV[1] then return redis.error_reply('REFUSED attempt ' .. g[2] .. ' replaced attempt ' .. ARGV[1]) end
redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
if redis.call('HLEN', KEYS[2]) < tonumber(g[3]) then return 'GENERATING' end
redis.call('XACK', KEYS[3], ARGV[5], g[4])
redis.call('XDEL', KEYS[3], g[4])
local id = redis.call('XADD', KEYS[4], '*', 'p', ARGV[4])
redis.call('HSET', KEYS[1], 'state', 'COMPLETE', 'message', id)
return 'COMPLETE'
