# Writes a C file that holds the bytes of files, for src/core/embed.h.
# Usage: cmake -D LIST=<file that sets embed_sql, embed_templates and embed_docs> -D OUT=<file.c> -P embed.cmake
include(${LIST})

set(out "/* Made by deps/cmake/embed.cmake. */\n#include \"core/embed.h\"\n")

# One byte array for each file, then the table embedded_<set>. A table ends with an entry without a name that its count
# leaves out: C has no arrays of size 0, and a set may be empty.
function(embed_set set)
  set(table "")
  set(number 0)
  foreach(file IN LISTS ARGN)
    get_filename_component(name ${file} NAME)
    file(READ ${file} hex HEX)
    string(LENGTH "${hex}" digits)
    math(EXPR size "${digits} / 2")
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
    # The 0 past the end is for whoever wants to read a file as a string.
    string(APPEND out "\nstatic const unsigned char ${set}_${number}[] = {\n${hex}0};\n")
    string(APPEND table "    {\"${name}\", ${set}_${number}, ${size}},\n")
    math(EXPR number "${number} + 1")
  endforeach()
  string(APPEND out "\nconst struct embedded_file embedded_${set}[] = {\n${table}    {0, 0, 0}};\n"
                    "const size_t embedded_${set}_count = ${number};\n")
  set(out "${out}" PARENT_SCOPE)
endfunction()

foreach(set sql templates docs)
  list(SORT embed_${set} COMPARE STRING)
  embed_set(${set} ${embed_${set}})
endforeach()
file(WRITE ${OUT} "${out}")
