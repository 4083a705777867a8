-- wrk: what a launch looks like from the server's side, as shares of a hundred: shares=OPERATION:N,…
-- Files: campaigns (id a line), codes (campaign, code), people (campaign, user); and each thread's own, every line used once:
-- tokens.N (campaign, user, verification token), awards.N (campaign, user, reward).
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

local campaigns, codes, people, next_token, next_award
local choices = {} -- one entry for each unit of share

local function user_path(campaign, user)
  return "/v1/campaigns/" .. campaign .. "/users/" .. user
end

local function read_user()
  return get(user_path(people[math.random(#people)]:match("^(%S+) (%S+)$")))
end

local operations = { read_user = read_user }

-- Half of them come through somebody's referral link.
function operations.sign_up()
  if math.random(2) == 1 then
    local campaign = campaigns[math.random(#campaigns)]
    return post("/v1/campaigns/" .. campaign .. "/users", '{"email":"' .. new_address() .. '"}')
  end
  local campaign, code = codes[math.random(#codes)]:match("^(%S+) (%S+)$")
  return post("/v1/campaigns/" .. campaign .. "/users",
    '{"email":"' .. new_address() .. '","referral_code":"' .. code .. '"}')
end

function operations.verify()
  local line = next_token()
  if not line then -- counted as dry, and said in the report
    return read_user()
  end
  local campaign, user, token = line:match("^(%S+) (%S+) (%S+)$")
  return post(user_path(campaign, user) .. "/verify", '{"token":"' .. token .. '"}')
end

function operations.award()
  local line = next_award()
  if not line then
    return read_user()
  end
  local campaign, user, reward = line:match("^(%S+) (%S+) (%S+)$")
  return post(user_path(campaign, user) .. "/rewards", '{"reward_id":"' .. reward .. '"}')
end

function operations.leaderboard()
  return get("/v1/campaigns/" .. campaigns[math.random(#campaigns)] .. "/leaderboard?limit=50")
end

function operations.read_campaign()
  return get("/v1/campaigns/" .. campaigns[math.random(#campaigns)])
end

function prepare()
  campaigns, codes, people = all_lines("campaigns"), all_lines("codes"), all_lines("people")
  next_token, next_award = take_lines("tokens"), take_lines("awards")
  for name, share in options.shares:gmatch("([%a_]+):(%d+)") do
    for _ = 1, tonumber(share) do
      choices[#choices + 1] = assert(operations[name], name)
    end
  end
end

function build()
  return choices[math.random(#choices)]()
end
