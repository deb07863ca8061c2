# The recipes of Quotestream. Without just, `./qs <recipe>` runs them.

set positional-arguments

# List these recipes
[private]
default:
    @printf '%s\n\n' 'Quotestream. Begin with `demo` or `up`; `./qs RECIPE --help` explains a recipe.'
    @'{{ just_executable() }}' --list --unsorted --list-heading ''

# Show it at work: a separate stack trades, three services are killed, and its logs audited, in half a minute
[group("run")]
[no-exit-message]
demo *ARGS:
    @exec uv run quotestream demo "$@"

# Start everything in the foreground; Ctrl-C stops it all
[group("run")]
[no-exit-message]
up *ARGS:
    @exec uv run quotestream up "$@"

# Like `up`, with a cluster of three NATS servers that keep three copies of everything
[group("run")]
[no-exit-message]
up-cluster *ARGS:
    @exec uv run quotestream up-cluster "$@"

# Stop what `up` started, from another terminal
[group("run")]
[no-exit-message]
down *ARGS:
    @exec uv run quotestream down "$@"

# Wait until everything is ready: `just wait --timeout 30`
[group("run")]
[no-exit-message]
wait *ARGS:
    @exec uv run quotestream wait "$@"

# Rebuild damaged data from the market log: see `just repair --help`
[group("run")]
[no-exit-message]
repair *ARGS:
    @exec uv run quotestream repair "$@"

# Show how the market differs from market.toml, or apply market.toml to it: `just market diff`, `just market apply`
[group("run")]
[no-exit-message]
market *ARGS:
    @exec uv run quotestream market "$@"

# Change an instrument while everything runs: `just symbol AAPL reference_price=232.10`
[group("run")]
[no-exit-message]
symbol *ARGS:
    @exec uv run quotestream symbol "$@"

# Resume a symbol that is paused for its loss: `just resume AAPL`; without a symbol, list the paused ones
[group("run")]
[no-exit-message]
resume *ARGS:
    @exec uv run quotestream resume "$@"

# Delete all data, after confirmation: streams, ledger, logs
[group("run")]
[no-exit-message]
clean-data *ARGS:
    @exec uv run quotestream clean-data "$@"

# Show every process: state, pid, uptime, restarts, lag, address, and what it waits for
[group("look")]
[no-exit-message]
status *ARGS:
    @exec uv run quotestream status "$@"

# Follow the logs of every process, or of one: `just logs exchange`
[group("look")]
[no-exit-message]
logs *SERVICE:
    @exec uv run quotestream logs "$@"

# Print every message on a subject as it passes: `just watch 'fills.>'`
[group("look")]
[no-exit-message]
watch *SUBJECT:
    @exec uv run quotestream watch "$@"

# Print one quote's story, from its position to its end: `just explain AAPL-v12-r9-a1`
[group("look")]
[no-exit-message]
explain *QUOTE_ID:
    @exec uv run quotestream explain "$@"

# Prove or refute the invariants from the recorded logs
[group("prove")]
[no-exit-message]
audit *ARGS:
    @exec uv run quotestream audit "$@"

# Write the recorded fills to a file: `just export fills.csv`, or `.parquet`
[group("prove")]
[no-exit-message]
export *ARGS:
    @exec uv run quotestream export "$@"

# Compare the recorded fills with another party's file of fills: `just reconcile broker.csv`
[group("prove")]
[no-exit-message]
reconcile *ARGS:
    @exec uv run quotestream reconcile "$@"

# Simulate the strategy alone, and compare it with a maker without skew: `just backtest --hours 8 --seed 1`
[group("prove")]
[no-exit-message]
backtest *ARGS:
    @exec uv run quotestream backtest "$@"

# Break a separate stack on purpose, and prove that nothing was lost: `just chaos --minutes 5 --seed 7`
[group("prove")]
[no-exit-message]
chaos *ARGS:
    @exec uv run quotestream chaos "$@"

# Simulate the whole system in one process and virtual time, with random faults: `just simulate --seeds 100`
[group("prove")]
[no-exit-message]
simulate *ARGS:
    @exec uv run quotestream simulate "$@"

# Send orders and measure the responses: `just load --rate 500 --duration 20 --html report.html`
[group("measure")]
[no-exit-message]
load *ARGS:
    @exec uv run quotestream load "$@"

# Measure the speed, each figure beside a reference: `just bench`, `just bench P1 P3`
[group("measure")]
[no-exit-message]
bench *ARGS:
    @exec uv run python -m bench "$@"

# Create the tokens with which HTTP clients authenticate; `just tokens --change trader` changes one
[group("guard")]
[no-exit-message]
tokens *ARGS:
    @exec uv run quotestream tokens "$@"

# Create a CA and a certificate for this machine in the folder `tls`, to try TLS: `just tls exchange.example` adds a name
[group("guard")]
[no-exit-message]
tls *NAMES:
    @umask 077 && mkdir -p tls/new && uv run python -m trustme --quiet --dir tls/new --identities localhost 127.0.0.1 ::1 "$@"
    @sync tls/new/* && mv tls/new/* tls && rmdir tls/new && sync tls
    @echo 'servers use tls/server.pem with tls/server.key; clients trust tls/client.pem'

# Create the keys of the broker's users, for your own NATS servers; `up` does this by itself
[group("guard")]
[no-exit-message]
keys *ARGS:
    @exec uv run quotestream keys "$@"

# Keep compiled files, whatever the environment says. Otherwise each test process would compile all of them.
# Run the tests, or some of them: `just test tests/wire`
[group("develop")]
[no-exit-message]
test *ARGS:
    @PYTHONDONTWRITEBYTECODE= exec uv run pytest --numprocesses 6 --dist loadfile --no-loadscope-reorder --durations 20 --durations-min 1 "$@"

# Find flaky tests by running them repeatedly while the processors are busy: `just flakes --runs 20 --busy 2`
[group("develop")]
[no-exit-message]
flakes *ARGS:
    @PYTHONPATH=tests exec uv run python -m support.flakes "$@"

# Take the README's pictures of the page from a separate stack: `just screenshots --help` lists the options
[group("develop")]
[no-exit-message]
screenshots *ARGS:
    @PYTHONPATH=tests exec uv run python -m support.screenshots "$@"

# Run the static checks: lint, format, types, layers
[group("develop")]
check:
    uv run ruff check
    uv run ruff format --check
    uv run mypy
    uv run lint-imports

# Fix what can be fixed automatically: lint, format
[group("develop")]
fmt:
    uv run ruff check --fix
    uv run ruff format

# Check the versions in uv.lock for known vulnerabilities; needs osv.dev, and fails if it does not respond
[group("guard")]
audit-deps:
    @mkdir -p .tools && uv export --locked --no-emit-project --quiet --output-file .tools/pinned.txt
    @uvx pip-audit@2.10.1 -r .tools/pinned.txt --require-hashes --disable-pip --strict -s osv || \
        { echo 'audit-deps: something is vulnerable, or could not be checked: see above' >&2; exit 1; }

# Render the documents as a searchable site in the folder `site`; the first run downloads mkdocs
[group("develop")]
site:
    @rm -rf .tools/pages && mkdir -p .tools/pages && cp -r *.md docs examples .tools/pages
    @uvx --with mkdocs-material==9.7.0 mkdocs build --quiet
    @echo 'open site/index.html'

# Write docs/licences.md again: the licences of everything that uv installs here
[group("develop")]
licences:
    @{ printf '# Licences\n\nThis page lists the licence of everything that is installed, including what only the tests need. `./qs licences`\ngenerates it.\n\n'; \
        uv run pip-licenses --format=markdown --ignore-packages quotestream; } > docs/licences.md

# Sign the hashes of the market log with your own key: `just seal KEY`, then `just audit --sealed KEY.pub`
[group("prove")]
[no-exit-message]
seal *ARGS:
    @exec uv run quotestream seal "$@"

# Test power cuts for longer than the tests do: `just power`, or a number of cuts: `just power 500`
[group("prove")]
[no-exit-message]
power CUTS="200":
    @QS_POWER_CUTS={{ CUTS }} exec uv run pytest tests/power --timeout 3600

# Test hostile input for longer than the tests do: `just fuzz`, or a number of requests per route: `just fuzz 500`
[group("prove")]
[no-exit-message]
fuzz EXAMPLES="100":
    @QS_FUZZ_EXAMPLES={{ EXAMPLES }} exec uv run pytest tests/hostile --timeout 1800

# Test damage in NATS's store for longer than the tests do: `just damage`, or at a number of places: `just damage 1000`
[group("prove")]
[no-exit-message]
damage PLACES="1000":
    @QS_DAMAGED_PLACES={{ PLACES }} QS_DAMAGE_SEED="$(date +%s)" exec uv run pytest tests/jet/test_damage.py --timeout 3600
