#!/bin/bash
# A pretraining run on SLURM: sbatch training/launch/slurm.sh RECIPE DATA WORKDIR [ARGUMENTS…]
#
# JAX takes one task for each node with all its GPUs; torch one task for each GPU, so add
# --ntasks-per-node=8 --gpus-per-task=1 --cpus-per-task=8 and KERAS_BACKEND=torch. The work
# directory has to be on a file system that all nodes see.
#
#SBATCH --job-name=mimzoo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
# SIGTERM comes five minutes before the time is over: enough for a checkpoint.
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
set -u

export KERAS_BACKEND="${KERAS_BACKEND:-jax}"
if [ "$KERAS_BACKEND" = tensorflow ]; then
    echo "TensorFlow wants TF_CONFIG with the addresses of all processes: use jax or torch." >&2
    exit 2
fi

recipe="$1" data="$2" workdir="$3"
shift 3
srun --kill-on-bad-exit=1 \
    mimzoo pretrain "$recipe" --data "$data" --workdir "$workdir" "$@"
status=$?

# 143: stopped by SIGTERM, all is saved. The same job resumes from there.
if [ "$status" -eq 143 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
