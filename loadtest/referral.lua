-- wrk: sign-ups that each carry the referral code of a user who is there already. File codes: campaign id and code a line.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

local paths, tails = {}, {}

function prepare()
  for i, line in ipairs(all_lines("codes")) do
    local campaign, code = line:match("^(%S+) (%S+)$")
    paths[i], tails[i] = "/v1/campaigns/" .. campaign .. "/users", '","referral_code":"' .. code .. '"}'
  end
end

function build()
  local i = math.random(#tails)
  return post(paths[i], '{"email":"' .. new_address() .. tails[i])
end
