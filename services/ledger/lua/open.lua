-- OPEN a group once. KEYS: epoch, group, ledger, live, groups stream
-- ARGV: epoch, group id, purpose, cursor, n, max attempts, payload. Returns the group's state, new or old.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
local state = redis.call('HGET', KEYS[2], 'state')
if state then return state end
local id = redis.call('XADD', KEYS[5], '*', 'p', ARGV[7])
redis.call('HSET', KEYS[2], 'state', 'OPEN', 'purpose', ARGV[3], 'cursor', ARGV[4], 'n', ARGV[5],
           'max_attempts', ARGV[6], 'attempt', 0, 'opened', ARGV[7], 'message', id)
redis.call('SADD', KEYS[4], ARGV[2])
redis.call('HINCRBY', KEYS[3], 'opened', 1)
redis.call('HINCRBY', KEYS[3], 'opened:' .. ARGV[3], 1)
return 'OPEN'
