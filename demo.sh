#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job on the model that ships with the project: MinMax, SmoothQuant and Outlier
# Suppression+ at W8A8, W6A6 and W4A4, each as float, simulated and integer model. Prints one table.
set -euo pipefail
cd "$(dirname "$0")"
tools/install_packages.sh build
cmake --preset release -DQUELL_BUILD_TESTS=OFF >/dev/null
cmake --build --preset release --target quell_cli
quell=build/release/bin/quell
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
reviews=examples/reviews
printf '\nReviews (examples/reviews): accuracy on 2000 sentences, %%\n\n'
printf '%-22s %-12s %-7s %8s %10s %8s\n' model recipe scheme float simulated integer
for model in model model-plain; do
  for scheme in W8A8 W6A6 W4A4; do
    for recipe in minmax smoothquant os_plus; do
      "$quell" quantize $reviews/$model "$work/out" --force --recipe $recipe --scheme $scheme --calibration $reviews/calibration.tsv \
        --num-samples 128 --sampling first --eval-task classification --eval-data $reviews/eval.tsv --quiet --json "$work/result.json" >/dev/null
      value() { sed -n "/\"engine\": \"$1\"/,/}/p" "$work/result.json" | grep -A9 '"metric": "accuracy"' | sed -n 's/.*"value": \([0-9.]*\).*/\1/p' | head -1; }
      name=$([ $model = model ] && echo "with outlier channels" || echo "without")
      printf '%-22s %-12s %-7s %8.2f %10.2f %8.2f\n' "$name" $recipe $scheme "$(value float)" "$(value simulated)" "$(value integer)"
    done
  done
done
