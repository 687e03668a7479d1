#!/bin/bash
# What a CUDA device is asked to do here, each step with its own time limit and log, so that none stops the rest:
#
#     benchmarks/device.sh OUT [cuda|cpu]
#
# builds gsplat's kernels (timed; at once where they are built), runs the tests marked gpu and the speed benchmarks,
# encodes a capture on the device, decodes the file there and on the CPU and compares the frames, and last times the
# CPU rasterizer and the training step on 1, 2, 4, ... threads. `cpu` tries the script where there is no such device.
# Needs adcgs importable. PYTHON, SCENE, MINUTES, REPEATS, THREADS and PYTEST (more arguments) change what is run.
set -u
out=${1:?usage: benchmarks/device.sh OUT [cuda|cpu]}
device=${2:-cuda}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
scene=${SCENE:-$root/examples/knight}
minutes=${MINUTES:-1}
repeats=${REPEATS:-11}
mkdir -p "$out" && out=$(cd "$out" && pwd) && cd "$root" || exit

threads=1
for ((n = 2; n <= $(nproc); n *= 2)); do threads+=,$n; done
threads=${THREADS:-$threads}

step() {  # name, seconds, command...
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$out/$name.out" 2>"$out/$name.log"
    local code=$?
    echo "== $name: exit $code after $((SECONDS - start)) s" | tee -a "$out/summary.txt"
    tail -n "${TAIL:-6}" "$out/$name.log" "$out/$name.out" | cut -c1-300
}
run() { local name=$1 limit=$2 verb=$3; shift 3; step "$name" "$limit" "$python" -c "from adcgs.cli.$verb import main; main()" "$@"; }

"$python" -c 'import torch; print(torch.__version__, *[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())])' \
    >"$out/summary.txt"
if [ "$device" = cuda ]; then
    step build 400 "$python" -c 'from gsplat.cuda._backend import _C; print(_C.__file__)'
    step tests 300 "$python" -m pytest -m gpu ${PYTEST:-}
fi
step rasterizer 60 "$python" benchmarks/rasterizer.py --device "$device" --threads 1 --repeats "$repeats" --json
step training_step 60 "$python" benchmarks/step.py --device "$device" --threads 1 --repeats "$repeats" --csv "$out/step.csv"
step playback 60 "$python" benchmarks/playback.py --device "$device" --threads 1 --repeats "$repeats" --csv "$out/playback"
run encode "$("$python" -c "print(int(60 * $minutes + 120))")" encode "$scene" -o "$out/device.adc" --device "$device" --minutes "$minutes" --json
for other in "$device" cpu; do
    run "decode_$other" 60 decode "$out/device.adc" --render "$out/frames_$other" --device "$other" --json
    run "eval_$other" 90 eval "$out/device.adc" "$scene" --device "$other" --json
done
run digest 60 inspect "$out/device.adc" --digest
step compare 60 "$python" - "$out/frames_$device" "$out/frames_cpu" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from PIL import Image

worst = 100.0
for first in sorted(Path(sys.argv[1]).glob("*.png")):
    a, b = (np.asarray(Image.open(path), float) / 255 for path in (first, Path(sys.argv[2]) / first.name))
    worst = min(worst, -10 * np.log10(max(np.mean((a - b) ** 2), 1e-10)))
print(f"frames of both devices: at least {worst:.1f} dB alike")
sys.exit(int(worst < 45))
PYTHON
step rasterizer_threads 60 "$python" benchmarks/rasterizer.py --only 200k_800 --threads "$threads" --repeats "$repeats" --json
step step_threads 90 "$python" benchmarks/step.py --threads "$threads" --repeats "$repeats" --csv "$out/step_threads.csv"
cat "$out/summary.txt"
! grep -qv 'exit 0 ' <(tail -n +2 "$out/summary.txt")
