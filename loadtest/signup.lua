-- wrk: sign-ups with addresses that never repeat, over the campaigns in the file campaigns=NAME (one id a line).
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

local paths

function prepare()
  paths = all_lines(options.campaigns)
  for i, id in ipairs(paths) do
    paths[i] = "/v1/campaigns/" .. id .. "/users"
  end
end

function build()
  return post(paths[math.random(#paths)], '{"email":"' .. new_address() .. '"}')
end
