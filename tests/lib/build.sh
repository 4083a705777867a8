# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # python, sanitized: for who sources this; project_dir: deps/lib.sh
# What tests/run and tests/chaos/run share: the Python packages and the program. To be sourced after deps/lib.sh, with the
# project's directory as the current one.

# Debian's python, since that is what deps/install has made sure of; others may be first in PATH.
venv=$project_dir/build/venv
python=$venv/bin/python
make_venv() {
    local wanted
    wanted=$(sha256sum <tests/requirements.txt)
    [ "$(cat "$venv/complete" 2>/dev/null)" != "$wanted" ] || return 0
    say "Python packages"
    rm -rf "$venv"
    mkdir -p build
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt </dev/null >&2
    echo "$wanted" >"$venv/complete"
}

build_preset() { # PRESET; with verbose=true, all that the build says is shown
    say "building, preset $1"
    mkdir -p build
    cmake --preset "$1" </dev/null >"build/$1.log" 2>&1 || { show_log "build/$1.log"; die "cmake --preset $1 failed"; }
    if ${verbose:-false}; then
        cmake --build --preset "$1" </dev/null >&2
    else
        cmake --build --preset "$1" </dev/null >"build/$1.log" 2>&1 || {
            grep -v -e '^\[[0-9]*/[0-9]*\] [A-Z]' -e '^ninja: ' "build/$1.log" | head -n 200 >&2
            die "preset $1 does not build"
        }
    fi
}

# Sets the array `sanitized`, to be put before commands that run programs built with a SANITIZER ("": none). GCC 12's
# need their place in the address space, which a kernel that randomizes widely may have given away.
find_sanitized() {
    sanitized=()
    if [ -n "$1" ] && setarch -R true 2>/dev/null; then
        sanitized=(setarch -R)
    fi
}
