-- wrk: sign-ups with addresses that never repeat, over the campaigns that loadtest/run made. Arguments: a file with one
-- campaign id a line, the API key.
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  campaigns = {}
  for line in io.lines(args[1]) do
    campaigns[#campaigns + 1] = "/v1/campaigns/" .. line .. "/users"
  end
  headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. args[2] }
  math.randomseed(os.time() * 16 + number)
  run = string.format("%x-%d-", math.random(0, 0x7fffffff), number)
  count = 0
end

function request()
  count = count + 1
  local body = '{"email":"' .. run .. count .. '@example.com"}'
  return wrk.format("POST", campaigns[math.random(#campaigns)], headers, body)
end
