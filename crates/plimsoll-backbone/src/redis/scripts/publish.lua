-- KEYS: generation, then for each publication those of stream, meta, idempotency and version that
-- its flags name. ARGV: process, new generation, new epoch, idempotency_ms, then for each:
-- flags, Pub/Sub channel, body, and as the flags say: k: size, ttl, meta ttl; v: number, epoch,
-- ttl. Answers for each "1" (new), "0" (not) or "E" (failed), then epoch and offset or the error.
local g = redis.call('GET', KEYS[1])
if g and string.sub(g, 1, -10) ~= ARGV[1] then
  return redis.error_reply('STALE another process was in charge')
end
if not g then
  g = ARGV[1] .. ' ' .. ARGV[2]
  redis.call('SET', KEYS[1], g)
end
g = string.sub(g, -8)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local call, pcall, format, find = redis.call, redis.pcall, string.format, string.find
local function failed(r) return type(r) == 'table' and r.err end
local function number(n) return format('%.0f', n) end
local now_text = number(now)

local function append(stream, meta, body, size, ttl, meta_ttl)
  local m = pcall('HMGET', meta, 'e', 's', 'g', 'x')
  if failed(m) then return nil, m.err end
  local epoch, s, renew = m[1], tonumber(m[2]), tonumber(m[4])
  if not epoch or not s or not renew or m[3] ~= g then
    epoch, s, renew = ARGV[3], 0, 0
    -- The first write is one that a full server refuses; after it, none is refused.
    local r = pcall('HSET', meta, 'e', epoch, 'g', g, 's', '0', 'x', '0')
    if failed(r) then return nil, r.err end
    call('DEL', stream)
  end
  local offset = number(s + 1)
  local r = pcall('XADD', stream, 'MAXLEN', '=', size, offset .. '-0',
    't', now_text, 'b', body)
  if type(r) == 'table' and r.err and find(r.err, 'equal or smaller', 1, true) then
    -- Somebody else wrote into our stream: nothing of this epoch can be appended any more.
    call('DEL', stream)
    epoch, offset, renew = ARGV[3], '1', 0
    call('HSET', meta, 'e', epoch, 'g', g, 's', '0')
    r = pcall('XADD', stream, '1-0', 't', now_text, 'b', body)
  end
  if failed(r) then return nil, r.err end
  if renew <= now then
    -- Expiries are set half a time too late, so that few publications have to set them.
    call('HSET', meta, 's', offset, 'x', number(now + math.min(ttl, meta_ttl) / 2))
    call('PEXPIRE', stream, number(ttl * 1.5))
    call('PEXPIRE', meta, number(meta_ttl + ttl / 2))
  else
    call('HSET', meta, 's', offset)
  end
  return epoch .. offset
end

local function position(meta)
  local m = pcall('HMGET', meta, 'e', 's', 'g')
  if failed(m) or not m[1] or m[3] ~= g then return '' end
  return m[1] .. m[2]
end

local out, k, a = {}, 2, 5
while ARGV[a] do
  local flags, channel, body = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  a = a + 3
  local simple = flags == 'k'
  local keeps, stream, meta = simple or find(flags, 'k', 1, true), nil, nil
  local size, ttl, meta_ttl, idempotency, version, number_, epoch_, version_ttl
  if keeps then
    stream, meta, k = KEYS[k], KEYS[k + 1], k + 2
    size, ttl, meta_ttl = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
    a = a + 3
  end
  if not simple and find(flags, 'i', 1, true) then idempotency, k = KEYS[k], k + 1 end
  if not simple and find(flags, 'v', 1, true) then
    version, k = KEYS[k], k + 1
    number_, epoch_, version_ttl, a = ARGV[a], ARGV[a + 1], ARGV[a + 2], a + 3
  end
  local answer
  if idempotency then
    local r = pcall('GET', idempotency)
    if failed(r) then answer = 'E' .. r.err elseif r then answer = '0' .. r end
  end
  if version and not answer then
    local r = pcall('GET', version)
    if failed(r) then
      answer = 'E' .. r.err
    elseif r then
      -- Numbers of up to 20 digits, padded: doubles would not tell large ones apart.
      if string.sub(r, 21) == epoch_ and number_ <= string.sub(r, 1, 20) then
        answer = '0' .. (keeps and position(meta) or '')
      end
    end
  end
  if not answer then
    local where, err = '', nil
    if keeps then where, err = append(stream, meta, body, size, ttl, meta_ttl) end
    if err then
      answer = 'E' .. err
    else
      local stamp = keeps and ('h' .. where .. ':') or 'n'
      local r = pcall('@PUBLISH@', channel, stamp .. body)
      if failed(r) then
        -- Appended all the same: readers find it there.
        if keeps then answer = 'E@' .. r.err else answer = 'E' .. r.err end
      else
        answer = '1' .. where
      end
      if version then call('SET', version, number_ .. epoch_, 'PX', version_ttl) end
      if idempotency then call('SET', idempotency, where, 'PX', ARGV[4]) end
    end
  end
  out[#out + 1] = answer
end
return out
