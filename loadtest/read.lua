-- wrk: somebody looks at pages: of ten requests, six reads of a user, two of a leaderboard's first page, one of a campaign,
-- and one sign-up. Files: campaigns (id a line), people (campaign, user).
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

local campaigns, people = {}, {}

function prepare()
  for i, id in ipairs(all_lines("campaigns")) do
    campaigns[i] = "/v1/campaigns/" .. id
  end
  for i, line in ipairs(all_lines("people")) do
    people[i] = "/v1/campaigns/" .. line:gsub(" ", "/users/")
  end
end

function build()
  local roll = math.random(10)
  if roll <= 6 then
    return get(people[math.random(#people)])
  end
  local campaign = campaigns[math.random(#campaigns)]
  if roll <= 8 then
    return get(campaign .. "/leaderboard?limit=50")
  elseif roll == 9 then
    return get(campaign)
  end
  return post(campaign .. "/users", '{"email":"' .. new_address() .. '"}')
end
