-- The ledger lost what happened before a checkpoint: set its counters to those of the checkpoint, and forget groups
-- that they count as ended. Repeating it changes nothing.
-- KEYS: epoch, ledger, live, groups stream, episodes stream, scored stream, then three per group to forget: group,
-- episodes, scores
-- ARGV: epoch, seal, consumer groups of the three streams, the counter dropped:infra when the groups were looked at, how
-- many of them to forget, their ids, then the counters as field and value.
-- Returns 1; 0 when the ledger has the seal already; -1 when a group was dropped meanwhile.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH ' .. ARGV[1]) end
if tonumber(redis.call('HGET', KEYS[2], 'seal') or '0') >= tonumber(ARGV[2]) then return 0 end
if (redis.call('HGET', KEYS[2], 'dropped:infra') or '0') ~= ARGV[6] then return -1 end
local announced = { OPEN = 1, GENERATING = 1, COMPLETE = 2, SCORED = 3 }
local count = tonumber(ARGV[7])
for i = 1, count do
  local key = 4 + 3 * i
  local g = redis.call('HMGET', KEYS[key], 'state', 'message')
  local stream = announced[g[1]]
  if stream and g[2] then
    redis.call('XACK', KEYS[3 + stream], ARGV[2 + stream], g[2])
    redis.call('XDEL', KEYS[3 + stream], g[2])
  end
  redis.call('DEL', KEYS[key], KEYS[key + 1], KEYS[key + 2])
  redis.call('SREM', KEYS[3], ARGV[7 + i])
end
redis.call('DEL', KEYS[2])
for i = 8 + count, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
