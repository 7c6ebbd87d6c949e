#!/usr/bin/env bash
# The test suite on extensions that are built with AddressSanitizer and UndefinedBehaviorSanitizer, by gcc.
#
#   tools/sanitize.sh PYTHON [PYTEST ARGUMENT ...]
#
# The sanitized package goes to build/sanitize; the one that is installed stays as it is. The interpreter itself is an
# ordinary one, so the sanitizer's library is loaded before it, and libstdc++ with it, whose exceptions the sanitizer
# hooks into. Leaks are not looked for at exit: CPython keeps much until then by design; tests/codec/test_leaks.py
# looks for those that grow. tests/rules and tests/fuzz start compilers and type checkers and are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

(($# > 0)) || { echo 'usage: tools/sanitize.sh PYTHON [PYTEST ARGUMENT ...]' >&2; exit 2; }
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
(($# > 0)) || set -- tests --ignore=tests/rules --ignore=tests/fuzz -n "$(nproc)"

# A copy, since a build in place would mix its objects with those of the ordinary one.
source=build/sanitize/source
site=$PWD/build/sanitize/site
mkdir -p "$source"
rm -rf "$site" "${source:?}"/{src,servers,_ext}
cp -r src servers _ext schema setup.py pyproject.toml README.md LICENSE "$source/"
TW_SANITIZE=1 "$python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
    --target "$site" "$source"

LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
export LD_PRELOAD
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONPATH=$site PYTHONMALLOC=malloc
"$python" - <<'EOF'
import os, tensorwire._decode as module

assert module.__file__.startswith(os.environ["PYTHONPATH"]), module.__file__
assert b"__asan_init" in open(module.__file__, "rb").read(), "built without AddressSanitizer"
EOF
exec "$python" -m pytest --timeout 0 -p no:cacheprovider "$@"
