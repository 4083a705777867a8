-- What the scenarios share: wrk's arguments as NAME=VALUE, files of input, addresses that never repeat, pacing, and one
-- line of JSON at the end, for loadtest/lib/generator.py. A scenario includes it and defines prepare() and build().
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

local count = 0

function new_address()
  count = count + 1
  return options.tag .. "-" .. number .. "-" .. count .. "@example.com"
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

function take_due(headers)
  if first > last then -- wrk's trial call before the start
    return
  end
  -- wrk's timers may be early by a part of a millisecond: what was sent early counts from then.
  headers["X-Request-Id"] = string.format("%.0f", math.min(due[first], now_us()) - start)
  due[first] = nil
  first = first + 1
end

function record(status, headers)
  local us = now_us() - start - tonumber(headers["X-Request-Id"] or headers["x-request-id"])
  local cell = us < 1e5 and math.floor(us / 50) or math.min(FINE + math.floor(us / 1000), FINE + COARSE - 1)
  cells[math.max(cell, 0)] = cells[math.max(cell, 0)] + 1
  cells[HIGHEST] = math.max(cells[HIGHEST], us)
end

function init(arguments)
  for _, argument in ipairs(arguments) do
    local name, value = argument:match("^(%w+)=(.*)$")
    options[name] = value
  end
  cells = ffi.cast("double *", ffi.cast("uintptr_t", memory))
  math.randomseed(number * 7919 + os.time())
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. options.key
  if options.rate then
    interval = 1e6 * tonumber(options.threads) / tonumber(options.rate)
    -- wrk looks for these names after init: without them it spends nothing on them.
    delay, response = delay_until_due, record
  end
  prepare()
end

-- wrk.format adds Host and Content-Length to the table that it is given.
function request()
  if options.rate then
    take_due(wrk.headers)
  end
  return build()
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

local function paced_latencies()
  local total, highest = 0, 0
  for _, of in ipairs(threads) do
    highest = math.max(highest, of[HIGHEST])
    for cell = 0, FINE + COARSE - 1 do
      total = total + of[cell]
    end
  end
  return paced_quantile(total, 0.5), paced_quantile(total, 0.9), paced_quantile(total, 0.99), highest, total
end

function done(summary, latency)
  local p50, p90, p99, max, paced = paced_latencies()
  if paced == 0 then
    p50, p90, p99, max = latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max
  end
  local dry = 0
  for _, of in ipairs(threads) do
    dry = dry + of[DRY]
  end
  local errors = summary.errors
  print(string.format('RESULT {"duration_s": %.6f, "requests": %d, "p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f, '
    .. '"max_ms": %.3f, "bad_status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "ran_dry": %d}',
    summary.duration / 1e6, summary.requests, p50 / 1e3, p90 / 1e3, p99 / 1e3, max / 1e3,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout, dry))
end
