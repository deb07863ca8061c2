#!/bin/sh
# Runs a recipe of the justfile on a machine with only Python 3.11: `./qs up`, `./qs test`; `./qs` lists them.
# It finds uv, or installs it into .tools; uv installs the rest into .venv.
set -eu
cd "$(dirname "$0")"

tools=.tools
oldest=3.11

fail() {
    printf 'qs: %s\n' "$*" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, sys.argv[1].split("."))))' "$oldest" 2>/dev/null
}

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found=$(python3 --version 2>/dev/null) || found="no python3"
    fail "Python $oldest or newer is needed, but found $found. On Debian 12 or newer: apt-get install python3 python3-venv"
}

# Installs uv into its own virtual environment or, if Python has no venv (as on Debian), into a folder with pip.
install_uv() {
    echo 'qs: installing uv into .tools (once)' >&2
    if "$1" -m venv "$tools/venv" >/dev/null 2>&1; then
        "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv ||
            fail 'pip could not install uv: see above'
        mkdir -p "$tools/bin"
        ln -sf ../venv/bin/uv "$tools/bin/uv"
    elif "$1" -m pip --version >/dev/null 2>&1; then
        rm -rf "$tools/venv"
        "$1" -m pip install --quiet --disable-pip-version-check --target "$tools" uv ||
            fail 'pip could not install uv: see above'
    else
        rm -rf "$tools/venv"
        fail 'this Python has neither venv nor pip, so uv cannot be installed. On Debian: apt-get install python3-venv'
    fi
}

python=$(find_python)
PATH=$PATH:$PWD/$tools/bin
export PATH
# Run exactly the versions in uv.lock; a lock file that is out of date is an error.
export UV_LOCKED=1
command -v uv >/dev/null || install_uv "$python"
# If the home folder is not writable, keep uv's downloads in this folder.
if [ -z "${UV_CACHE_DIR:-}" ]; then
    cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}/uv
    { mkdir -p "$cache" && [ -w "$cache" ]; } 2>/dev/null || export UV_CACHE_DIR="$PWD/$tools/cache"
fi
# Compile all installed packages and our own once, rather than in each service while all of them start.
if [ ! -d .venv ]; then
    export UV_COMPILE_BYTECODE=1
    uv run --quiet python -m compileall -q src >/dev/null 2>&1 || true  # the next command reports any error
fi

# Show the list of recipes rather than the options of just.
case "$*" in -h | --help | help) set -- ;; esac

# Run `up` directly rather than through uv and just, which handle Ctrl-C and SIGTERM differently.
if [ "$*" = up ] || [ "$*" = up-cluster ]; then
    python=$(uv run --quiet python -c 'import sys; print(sys.executable)')
    exec "$python" -m stack "$1"
fi
exec uv run --quiet just "$@"
