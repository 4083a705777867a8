-- wrk: connections that are open and mostly silent; each reads a user once in every=SECONDS. File people: campaign, user.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

local people = {}

function prepare()
  for i, line in ipairs(all_lines("people")) do
    people[i] = "/v1/campaigns/" .. line:gsub(" ", "/users/")
  end
  local longest_ms = 2000 * tonumber(options.every)
  delay = function()
    return math.random(longest_ms)
  end
end

function build()
  return get(people[math.random(#people)])
end
