-- What the scenarios share: wrk's arguments as NAME=VALUE, files of input, requests, addresses that never repeat, pacing, and
-- one line of JSON at the end, for loadtest/lib/generator.py. A scenario includes it and defines prepare() and build().
--
-- dir=DIR key=KEY tag=TEXT threads=N   always
-- rate=N                               actions a second; without it every connection asks again at once (closed loop)
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long s, ns; } load_timespec;
  int clock_gettime(int clock, load_timespec *at);
  void *calloc(size_t count, size_t size);
]]

options = {}

-- Latencies in the paced mode: steps of 50 us up to 100 ms, then of 1 ms up to 60 s; the last two cells are the highest one
-- in us, and how often a file of input ran dry. Threads of wrk have no Lua state in common, so the cells are C memory.
local FINE, COARSE = 2000, 60000
local HIGHEST, DRY, CELLS = FINE + COARSE, FINE + COARSE + 1, FINE + COARSE + 2

-- The points of the latency distribution that done() reports.
local QUANTILES = { 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999 }

local threads, cells = {}, nil

function setup(thread)
  local memory = ffi.C.calloc(CELLS, 8)
  threads[#threads + 1] = ffi.cast("double *", memory)
  thread:set("number", #threads)
  thread:set("memory", tonumber(ffi.cast("uintptr_t", memory)))
end

local clock = ffi.new("load_timespec")

local function now_us()
  ffi.C.clock_gettime(1, clock) -- CLOCK_MONOTONIC
  return tonumber(clock.s) * 1e6 + tonumber(clock.ns) / 1e3
end

-- A file's lines, all at once; or (take_lines) one a call, each once: then the file is this thread's own.
function all_lines(name)
  local found = {}
  for line in io.lines(options.dir .. "/" .. name) do
    found[#found + 1] = line
  end
  return found
end

function take_lines(name)
  local file = assert(io.open(options.dir .. "/" .. name .. "." .. number))
  return function()
    local line = file:read("*l")
    if not line then
      cells[DRY] = cells[DRY] + 1
    end
    return line
  end
end

-- Requests. wrk.format would build and join a table for each: that was four fifths of what Lua cost.
local headers

function get(path)
  return "GET " .. path .. " HTTP/1.1\r\n" .. headers .. "\r\n"
end

function post(path, body)
  return "POST " .. path .. " HTTP/1.1\r\n" .. headers .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

local count = 0

-- Begins with anything, as addresses do: the index of addresses has to be written all over.
function new_address()
  count = count + 1
  return math.random(1e8) .. options.address .. count .. "@example.com"
end

-- The paced mode. Each request has a moment at which it is due; connections that are free take the next one. A latency is
-- counted from that moment, not from when a connection came free: so a server that stalls cannot hide it by being asked
-- less. The moment travels as X-Request-Id, which every answer carries.
local due, first, last = {}, 1, 0
local interval, next_due, start

function delay_until_due()
  local now = now_us()
  if not next_due then
    start = now
    next_due = now + interval * number / tonumber(options.threads) -- the threads' moments interleave
  end
  last = last + 1
  due[last] = next_due
  next_due = next_due + interval
  return math.max(0, math.ceil((due[last] - now) / 1000))
end

local function paced_request()
  local text = build()
  if first > last then -- wrk's trial call before the start
    return text
  end
  -- wrk's timers may be early by a part of a millisecond: what was sent early counts from then.
  local moment = math.floor(math.min(due[first], now_us()) - start)
  due[first] = nil
  first = first + 1
  local line_end = text:find("\r\n", 1, true)
  return text:sub(1, line_end + 1) .. "X-Request-Id: " .. moment .. text:sub(line_end)
end

function record(status, answer)
  local us = now_us() - start - tonumber(answer["X-Request-Id"] or answer["x-request-id"])
  local cell = us < 1e5 and math.floor(us / 50) or math.min(FINE + math.floor(us / 1000), FINE + COARSE - 1)
  cells[math.max(cell, 0)] = cells[math.max(cell, 0)] + 1
  cells[HIGHEST] = math.max(cells[HIGHEST], us)
end

function init(arguments)
  for _, argument in ipairs(arguments) do
    local name, value = argument:match("^(%w+)=(.*)$")
    options[name] = value
  end
  options.address = "-" .. options.tag .. "-" .. number .. "-"
  cells = ffi.cast("double *", ffi.cast("uintptr_t", memory))
  math.randomseed(number * 7919 + os.time())
  headers = "Host: " .. wrk.headers["Host"] .. "\r\nContent-Type: application/json\r\nAuthorization: Bearer "
    .. options.key .. "\r\n"
  prepare()
  -- wrk looks for these names after init: without them it spends nothing on them.
  request = build
  if options.rate then
    interval = 1e6 * tonumber(options.threads) / tonumber(options.rate)
    request, delay, response = paced_request, delay_until_due, record
  end
end

-- How many answers the paced mode has counted, and the latency that a share q of them did not exceed, in us.
local function paced_total()
  local total = 0
  for _, of in ipairs(threads) do
    for cell = 0, FINE + COARSE - 1 do
      total = total + of[cell]
    end
  end
  return total
end

local function paced_quantile(total, q)
  local seen = 0
  for cell = 0, FINE + COARSE - 1 do
    for _, of in ipairs(threads) do
      seen = seen + of[cell]
    end
    if seen >= q * total then
      return cell < FINE and (cell + 1) * 50 or (cell - FINE + 1) * 1000
    end
  end
  return 6e7
end

function done(summary, latency)
  local total, max, dry = paced_total(), latency.max, 0
  if total > 0 then
    max = 0
  end
  for _, of in ipairs(threads) do
    dry, max = dry + of[DRY], math.max(max, of[HIGHEST])
  end
  local quantiles = {}
  for i, q in ipairs(QUANTILES) do
    local us = total > 0 and math.min(paced_quantile(total, q), max) or latency:percentile(q * 100)
    quantiles[i] = string.format("[%g, %.3f]", q, us / 1e3)
  end
  local errors = summary.errors
  print(string.format('RESULT {"duration_s": %.6f, "requests": %d, "mean_ms": %.4f, "max_ms": %.3f, "quantiles": [%s], '
    .. '"bad_status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "ran_dry": %d}',
    summary.duration / 1e6, summary.requests, latency.mean / 1e3, max / 1e3, table.concat(quantiles, ", "),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout, dry))
end
