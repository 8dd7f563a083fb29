-- Count one more checkpoint, and tell what the ledger holds at this instant. KEYS: epoch, ledger, live. ARGV: epoch
-- Returns the counters with the seal among them, field by field, and the ids of the live groups.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
redis.call('HINCRBY', KEYS[2], 'seal', 1)
return {redis.call('HGETALL', KEYS[2]), redis.call('SMEMBERS', KEYS[3])}
