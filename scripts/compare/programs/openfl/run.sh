#!/usr/bin/env bash
# The commands of OpenFL's quickstart for the task runner, on one machine.
set -euo pipefail
files="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
cd -- "$COMPARE_OUTPUT"
if [ ! -e workspace/save/init.pbuf ]; then
  fx workspace create --prefix workspace --template torch/mnist
  cp -r -- "$files/plan" "$files/src" workspace/
  cd workspace
  sed -i "s/rounds_to_train: 20/rounds_to_train: $COMPARE_ROUNDS/" plan/plan.yaml # measured
  fx plan initialize --aggregator_address localhost
else
  cd workspace
fi
fx aggregator start &
aggregator=$!
for number in $(seq 10); do
  fx collaborator start --collaborator_name "collaborator$number" &
done
wait "$aggregator"
python "$files/last_model.py" # measured
wait
