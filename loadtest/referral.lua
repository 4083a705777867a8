-- wrk: sign-ups that each carry the referral code of a user who is there already. File codes: campaign id and code a line.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

local paths, codes = {}, {}

function prepare()
  for i, line in ipairs(all_lines("codes")) do
    local campaign, code = line:match("^(%S+) (%S+)$")
    paths[i], codes[i] = "/v1/campaigns/" .. campaign .. "/users", code
  end
end

function build()
  local i = math.random(#codes)
  return wrk.format("POST", paths[i], nil, '{"email":"' .. new_address() .. '","referral_code":"' .. codes[i] .. '"}')
end
