-- KEYS: generation, stream, meta. ARGV: process, new generation, new epoch, size, ttl, meta ttl,
-- empty ttl, "a" (after) or "b" (before), offset, limit.
-- Answers epoch, top, floor, then offset and body of each.
local g = redis.call('GET', KEYS[1])
if g and string.sub(g, 1, -10) ~= ARGV[1] then
  return redis.error_reply('STALE another process was in charge')
end
if not g then
  g = ARGV[1] .. ' ' .. ARGV[2]
  redis.call('SET', KEYS[1], g)
end
g = string.sub(g, -8)
local stream, meta = KEYS[2], KEYS[3]
local ttl, meta_ttl = tonumber(ARGV[5]), tonumber(ARGV[6])
local limit = tonumber(ARGV[10])
local m = redis.call('HMGET', meta, 'e', 's', 'g')
local epoch, top = m[1], m[2]
if not epoch or not tonumber(top) or m[3] ~= g then
  epoch, top = ARGV[3], '0'
  redis.call('HSET', meta, 'e', epoch, 'g', g, 's', top, 'x', '0')
  redis.call('DEL', stream)
end
if top == '0' then
  redis.call('PEXPIRE', meta, math.min(meta_ttl, tonumber(ARGV[7])))
elseif redis.call('PTTL', meta) < meta_ttl then
  redis.call('PEXPIRE', meta, string.format('%.0f', meta_ttl + ttl / 2))
end
-- Each publication lives for its own time, and no entry is above the top but a foreign one.
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ttl
local first
while not first do
  local page = redis.call('XRANGE', stream, '-', top, 'COUNT', 16)
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    if (tonumber(entry[2][2]) or 0) > oldest then first = entry[1] break end
  end
  if first ~= page[1][1] then
    local keep = first or (string.match(page[#page][1], '%d+') .. '-1')
    redis.call('XTRIM', stream, 'MINID', '=', keep)
  end
end
local floor = first and string.format('%.0f', tonumber(string.match(first, '%d+')) - 1) or top
local entries = {}
if first and limit > 0 then
  if ARGV[8] == 'a' then
    entries = redis.call('XRANGE', stream, '(' .. ARGV[9] .. '-0', top, 'COUNT', limit)
  else
    local last = ARGV[9] == '-' and top or ('(' .. ARGV[9] .. '-0')
    entries = redis.call('XREVRANGE', stream, last, '-', 'COUNT', limit)
  end
end
local out = { epoch, top, floor }
local from, to, step = 1, #entries, 1
if ARGV[8] ~= 'a' then from, to, step = #entries, 1, -1 end
for i = from, to, step do
  local entry = entries[i]
  local offset = string.match(entry[1], '^(%d+)%-0$')
  if offset and entry[2][1] == 't' and entry[2][3] == 'b' then
    out[#out + 1] = offset
    out[#out + 1] = entry[2][4]
  end
end
return out
