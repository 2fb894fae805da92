# Sourced by the scripts beside it: progress lines, long steps, a Python that is new enough.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 69
ROOT=$PWD
export GPUSERVE_STARTED_S=${GPUSERVE_STARTED_S:-$(date +%s)}
export PIP_DISABLE_PIP_VERSION_CHECK=1

# say LINE: a progress line with the seconds since the first script began.
say() { printf '[%4ds] %s\n' "$(($(date +%s) - GPUSERVE_STARTED_S))" "$*" >&2; }

# die MESSAGE [HINT]: end with 69, "the host lacks something".
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 69
}

# long WHAT LOG WATCHED COMMAND…: run COMMAND with its output in LOG; each ten seconds say that
# it still runs and how large the directory WATCHED has become.
long() {
    local what=$1 log=$2 watched=$3 pid began seconds
    shift 3
    say "$what"
    began=$(date +%s)
    "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    # shellcheck disable=SC2064  # the pid of now is meant
    trap "kill $pid 2>/dev/null; exit 130" INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        seconds=$(($(date +%s) - began))
        if ((seconds > 0 && seconds % 10 == 0)); then
            say "  … $seconds s, $(du -sh "$watched" 2>/dev/null | cut -f1) so far"
        fi
    done
    trap - INT TERM
    wait "$pid"
}

# python_for_venvs: print the path of a Python that gpuserve runs on; the box's own python3 first.
python_for_venvs() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "gpuserve needs Python 3.11 or newer, found $(python3 --version 2>&1 || true)" \
        "Debian 12, Ubuntu 24.04 and later have it: apt-get install python3 python3-venv"
}

# make_venv DIRECTORY: an environment whose Python runs and whose pip knows --group (25.1, PEP 735).
make_venv() {
    local venv=$1 python
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(python_for_venvs) || exit
        say "$venv: made with $python ($("$python" --version 2>&1))"
        rm -rf "$venv"
        "$python" -m venv "$venv" ||
            die "cannot make a virtual environment in $venv" "apt-get install python3-venv"
    fi
    if ! "$venv/bin/python" -c '
import sys
from importlib.metadata import version
sys.exit(tuple(map(int, version("pip").split(".")[:2])) < (25, 1))'; then
        "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' ||
            die "cannot upgrade pip in $venv" "is the package index reachable? pip's message is above"
    fi
}

# locked NAME: hold a lock until this script ends, so that two runs do not build at once.
locked() {
    mkdir -p .cache
    exec 9>".cache/$1.lock"
    flock --nonblock 9 || { say "another run is making $1; waiting for it" && flock 9; }
}
