# What people do with Quotestream. Without just: `./qs <recipe>` finds it.

set positional-arguments

# List these recipes
[private]
default:
    @just --list --unsorted

# Start everything in the foreground; Ctrl-C stops it all
[no-exit-message]
up:
    @exec uv run python -m stack up

# Like `up`, with a cluster of three NATS servers that hold everything three times
[no-exit-message]
up-cluster:
    @exec uv run python -m stack up-cluster

# Stop what `up` started, from another terminal
[no-exit-message]
down:
    @exec uv run python -m stack down

# Show every process: state, pid, uptime, restarts, address, and what it waits for
[no-exit-message]
status:
    @exec uv run python -m stack status

# Wait until everything is ready: `just wait --timeout 30`
[no-exit-message]
wait *ARGS:
    @exec uv run python -m stack wait "$@"

# Follow the logs of every process, or of one: `just logs exchange`
[no-exit-message]
logs *SERVICE:
    @exec uv run python -m stack logs "$@"

# Print every message on a subject as it passes: `just watch 'fills.>'`
[no-exit-message]
watch SUBJECT:
    @exec uv run python -m stack watch "$@"

# Send orders and measure the answers: `just load --rate 500 --duration 20`
[no-exit-message]
load *ARGS:
    @exec uv run python -m loadgen "$@"

# Break a stack of its own on purpose, and prove that nothing was lost: `just chaos --minutes 5 --seed 7`
[no-exit-message]
chaos *ARGS:
    @exec uv run python -m chaos "$@"

# Measure how fast it is, each figure beside a reference: `just bench`, `just bench P1 P3`, `just bench --help`
[no-exit-message]
bench *ARGS:
    @exec uv run python -m bench "$@"

# Prove the invariants from what was recorded, or refute them: `just audit --help` lists the options
[no-exit-message]
audit *ARGS:
    @exec uv run python -m audit "$@"

# Tell one quote's story, from its position to its end: `just explain AAPL-v12-a1`
[no-exit-message]
explain QUOTE_ID *ARGS:
    @exec uv run python -m audit explain "$@"

# Run the tests, or some of them: `just test tests/wire`
[no-exit-message]
test *ARGS:
    @exec uv run pytest --numprocesses 2 --dist loadfile "$@"

# Everything that is checked without running it: lint, format, types, layers
check:
    uv run ruff check
    uv run ruff format --check
    uv run mypy
    uv run lint-imports

# Mend what can be mended by itself: lint, format
fmt:
    uv run ruff check --fix
    uv run ruff format

# Throw away all data: streams, ledger, logs
[confirm("This deletes the data folder: every fill, position and log. Go on? (y/N)")]
[no-exit-message]
clean-data:
    @exec uv run python -m stack clean-data
