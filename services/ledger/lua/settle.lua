-- Groups whose results are durable count as consumed, once, whatever the ledger knows of them.
-- KEYS: epoch, ledger, live, groups stream, episodes stream, scored stream, then three per group: group, episodes, scores
-- ARGV: epoch, field of the ledger that says they are settled, purpose, consumer groups of the three streams, group ids
-- Returns how many were not counted before.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
if redis.call('HSETNX', KEYS[2], ARGV[2], 1) == 0 then return 0 end
local announced = { OPEN = 1, GENERATING = 1, COMPLETE = 2, SCORED = 3 }
local opened, consumed = 0, 0
for i = 7, #ARGV do
  local key = 7 + 3 * (i - 7)
  local g = redis.call('HMGET', KEYS[key], 'state', 'message')
  if g[1] ~= 'CONSUMED' and g[1] ~= 'DROPPED' then
    local stream = announced[g[1]]
    if stream and g[2] then
      redis.call('XACK', KEYS[3 + stream], ARGV[3 + stream], g[2])
      redis.call('XDEL', KEYS[3 + stream], g[2])
    end
    redis.call('DEL', KEYS[key], KEYS[key + 1], KEYS[key + 2])
    redis.call('SREM', KEYS[3], ARGV[i])
    if not g[1] then opened = opened + 1 end
    consumed = consumed + 1
  end
end
if consumed > 0 then
  redis.call('HINCRBY', KEYS[2], 'opened', opened)
  redis.call('HINCRBY', KEYS[2], 'opened:' .. ARGV[3], opened)
  redis.call('HINCRBY', KEYS[2], 'consumed', consumed)
  redis.call('HINCRBY', KEYS[2], 'consumed:' .. ARGV[3], consumed)
end
return consumed
