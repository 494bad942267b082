// How many threads the kernels use.
#pragma once

namespace vivace {

// At least 1. The default is what the process may use: its CPU affinity and its cgroup's CPU quota.
void set_num_threads(int threads);
int get_num_threads();

}  // namespace vivace
