-- KEYS: members, users, leases of each channel. ARGV: lease, node.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease)
for k = 1, #KEYS, 3 do
  if redis.call('EXISTS', KEYS[k]) == 1 then
    redis.call('HSET', KEYS[k + 2], ARGV[2], ends)
    redis.call('PEXPIRE', KEYS[k], lease)
    redis.call('PEXPIRE', KEYS[k + 1], lease)
    redis.call('PEXPIRE', KEYS[k + 2], lease)
  end
end
return 1
