# Sourced by the other scripts. `ensure_environment` makes .venv hold exactly what
# requirements.lock says, with this checkout installed editable, and sets ROOT (the
# checkout) and PYTHON (the environment's interpreter). Messages go to stderr.
#
# .venv/.complete is written last: it names what the environment was built from, so
# that a changed lock, a moved checkout, a removed Python or an interrupted
# installation is noticed and redone.

ROOT="$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd -P)"
PYTHON="$ROOT/.venv/bin/python"

# A caller's Python settings would mix foreign packages into the environment.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE VIRTUAL_ENV \
  PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_HASHES PIP_NO_BINARY CDPATH

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "error: $*"
  exit 1
}

# Memory in huge pages, and idle threads of NumPy that sleep, for the programs that this
# shell starts from here on. tfl_research/cli/starting.py says why, and does the same for
# a program started by hand.
prepare_programs() {
  export OPENBLAS_THREAD_TIMEOUT="${OPENBLAS_THREAD_TIMEOUT-4}"
  case "${GLIBC_TUNABLES-}" in *glibc.malloc.hugetlb=*) return ;; esac
  export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1"
}

# Replaces this shell by a program of the package, whose first instruction is
# starting.begin(). SIGINT and SIGTERM wait until then: before, Python would print a
# traceback. (coreutils 8.31 or newer; with earlier ones, it may.)
exec_program() {
  prepare_programs
  if env --block-signal=INT,TERM true 2>/dev/null; then
    exec env --block-signal=INT,TERM "$PYTHON" "$@"
  fi
  exec "$PYTHON" "$@"
}

# The first line of .complete: changes when everything must be installed again.
_environment_id() {
  local version
  version="$("$PYTHON" -Ic 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" ||
    return 1
  printf '%s python%s %s\n' \
    "$(sha256sum <"$ROOT/requirements.lock" | cut -c1-64)" "$version" "$ROOT"
}

# The second line: changes when only the project itself must be.
_project_id() { sha256sum <"$ROOT/setup.py" | cut -c1-64; }

_check_platform() {
  local glibc
  if [ "$(uname -s)" != Linux ] || [ "$(uname -m)" != x86_64 ]; then
    fail "TensorFlow Federated 0.87 runs on Linux x86-64 only, and this is" \
      "$(uname -s) $(uname -m); use a Linux x86-64 machine or container"
  fi
  glibc="$(getconf GNU_LIBC_VERSION 2>/dev/null)" || glibc=""
  glibc="${glibc#glibc }"
  if [ "$(printf '%s\n' 2.31 "${glibc:-0}" | sort -V | head -n 1)" != 2.31 ]; then
    fail "TensorFlow Federated 0.87 needs glibc 2.31 or newer (Debian 11," \
      "Ubuntu 20.04), found ${glibc:-no glibc}"
  fi
}

# Prints the path of a usable Python. A name on PATH may be a shim that fails, or a
# Python built without what pip needs, so each candidate is tried.
_find_python() {
  local candidate probe version unusable=""
  probe='
import sys
version = "%d.%d" % sys.version_info[:2]
print(version)
if not ((3, 9) <= sys.version_info[:2] <= (3, 11) and sys.maxsize > 2**32):
    sys.exit(3)
import ctypes, ssl, venv, zlib
print(sys.executable)'
  local candidates=(python3.11 python3.10 python3.9 python3 python)
  candidates+=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.{11,10,9}*/bin/python)
  if command -v uv >/dev/null; then
    candidates+=("$(uv python find --no-project '>=3.9,<3.12' 2>/dev/null)")
  fi
  for candidate in "${candidates[@]}"; do
    command -v -- "$candidate" >/dev/null || continue
    if version="$("$candidate" -Ic "$probe" 2>/dev/null)"; then
      printf '%s\n' "${version##*$'\n'}"
      return
    fi
    version="${version%%$'\n'*}"
    [ -z "$version" ] || case " $unusable " in
      *" $version "*) ;;
      *) unusable="${unusable:+$unusable }$version" ;;
    esac
  done
  say "error: Python 3.9, 3.10 or 3.11 is needed (TensorFlow Federated 0.87 has no" \
    "wheel for others), found ${unusable:-none}; install one, for example" \
    "'apt install python3.11 python3.11-venv', 'pyenv install 3.11' or" \
    "'uv python install 3.11'"
  return 1
}

# Shows pip's or uv's output as a counter; all of it is in the log file.
_progress() {
  local log="$1" total="$2" every=20 count=0 line end='\n'
  if [ -t 2 ]; then every=1 end='\r'; fi
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$log"
    case "$line" in
      Collecting\ * | Processing\ *)
        count=$((count + 1))
        if [ $((count % every)) = 0 ] && [ "$count" -le "$total" ]; then
          printf "  package %3d of about %d$end" "$count" "$total" >&2
        fi
        ;;
      Resolved\ * | Downloading\ tensorflow\ * | Prepared\ * | Installed\ *)
        say "  $line"
        ;;
      Building\ wheels\ *) say "  building those that ship as source        " ;;
      Installing\ collected\ *) say "  unpacking                                 " ;;
    esac
  done
}

# Runs an installer with its output in the log; shows the log's end if it fails.
# LOCK is the file whose packages are counted.
_logged() {
  local log="$ROOT/.venv/install.log" lock="${LOCK:-$ROOT/requirements.lock}" total
  # A package is listed once for each range of Python versions that it differs in.
  total="$(sed -n 's/^\([a-z][^=]*\)==.*/\1/p' "$lock" | sort -u | wc -l)"
  if ! "$@" 2>&1 < /dev/null | _progress "$log" "$total"; then
    tail -n 15 -- "$log" >&2
    fail "installation failed; the whole log is in $log"
  fi
}

# Installs with uv when it is there, else with pip: the environment's own, or that
# of the Python it was made from where the distribution splits ensurepip off.
_install() {
  local base="$1"
  shift
  if command -v uv >/dev/null; then
    # Elsewhere than in ROOT: pyproject.toml's constraints have no hashes.
    (cd / && uv pip install --python "$PYTHON" --no-deps "$@")
  elif "$PYTHON" -Ic 'import pip' 2>/dev/null; then
    "$PYTHON" -m pip install --no-deps --use-pep517 "$@"
  else
    "$base" -m pip --python "$PYTHON" install --no-deps --use-pep517 "$@"
  fi
}

_create_venv() {
  local base="$1"
  if command -v uv >/dev/null; then
    "$base" -Im venv --without-pip "$ROOT/.venv"
  elif "$base" -Ic 'import ensurepip' 2>/dev/null; then
    "$base" -Im venv "$ROOT/.venv"
  elif "$base" -m pip --python "$base" --version >/dev/null 2>&1; then
    "$base" -Im venv --without-pip "$ROOT/.venv"
  else
    fail "$base has neither ensurepip nor pip 22.3 or newer; install uv, or the" \
      "'python3-venv' package of its version"
  fi
}

_build_environment() {
  local base installer=pip
  _check_platform
  base="$(_find_python)" || exit 1
  command -v uv >/dev/null && installer=uv
  say "Setting up $ROOT/.venv with $base and $installer (about 900 MB to download, 1 to 3 minutes)."
  # Everything goes but the lock that is being held.
  find "$ROOT/.venv" -mindepth 1 -maxdepth 1 ! -name .setup_lock -exec rm -rf -- {} +
  _create_venv "$base"
  _logged _install "$base" --require-hashes -r "$ROOT/requirements.lock"
}

_install_project() {
  # The lock holds setuptools, so nothing unhashed is fetched for the build.
  _logged _install "$1" --no-build-isolation -e "$ROOT"
}

# Whether .venv is complete, and fits the lock and the project.
_is_ready() {
  local complete="$ROOT/.venv/.complete" wanted built project
  wanted="$(_environment_id)" || return 1
  built="$(sed -n 1p "$complete" 2>/dev/null)" || return 1
  project="$(sed -n 2p "$complete" 2>/dev/null)" || return 1
  [ "$wanted" = "$built" ] && [ "$(_project_id)" = "$project" ]
}

ensure_environment() {
  # Without the lock: programs that only start do not wait for each other.
  if _is_ready; then return 0; fi
  mkdir -p -- "$ROOT/.venv" 2>/dev/null ||
    fail "cannot create $ROOT/.venv; make $ROOT writable"
  # A subshell, so that the lock's file descriptor is not inherited by what runs later.
  (
    if ! flock -n 9; then
      say "Another run is setting up $ROOT/.venv; waiting for it."
      flock 9
    fi
    # Another one may have set it up since.
    if _is_ready; then exit 0; fi
    complete="$ROOT/.venv/.complete"
    wanted="$(_environment_id)" || wanted="no interpreter"
    built="$(sed -n 1p "$complete" 2>/dev/null)" || built=""
    rm -f -- "$complete"
    if [ "$wanted" != "$built" ]; then _build_environment; fi
    say "Installing tfl_research from $ROOT."
    _install_project "$("$PYTHON" -Ic 'import sys; print(sys._base_executable)')"
    { _environment_id && _project_id; } >"$complete.part"
    mv -- "$complete.part" "$complete"
    say "The environment is ready."
  ) 9>>"$ROOT/.venv/.setup_lock" || exit 1
}

# Adds CUDA's libraries to the environment. When the environment is built anew, they go.
install_gpu() {
  local lock="$ROOT/requirements-gpu.lock" marker="$ROOT/.venv/.gpu" wanted
  ensure_environment
  wanted="$(sha256sum <"$lock" | cut -c1-64)"
  (
    flock 9
    if [ "$(cat -- "$marker" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
    say "Adding CUDA 11.8 to $ROOT/.venv (about 2 GB to download)."
    LOCK="$lock" _logged _install "$("$PYTHON" -Ic 'import sys; print(sys._base_executable)')" \
      --require-hashes -r "$lock"
    printf '%s\n' "$wanted" >"$marker"
  ) 9>>"$ROOT/.venv/.setup_lock" || exit 1
}
