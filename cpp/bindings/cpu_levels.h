// Which ISA levels this machine's CPU and operating system support, best last. Compiled for the baseline only: it runs
// before anything else may.
#pragma once

#include <string>
#include <vector>

inline std::vector<std::string> supported_levels() {
    std::vector<std::string> levels;
#if defined(__x86_64__)
    __builtin_cpu_init();  // reads CPUID and, through XGETBV, what the operating system saves
    const auto add_if = [&](bool supported, const char* level) {
        if (supported) levels.push_back(level);
        return supported;
    };
    const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
                    __builtin_cpu_supports("popcnt");
    const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    add_if(v2, "x86-64-v2") && add_if(v3, "x86-64-v3") && add_if(v4, "x86-64-v4");
#elif defined(__aarch64__)
    levels.push_back("aarch64");  // NEON is part of the architecture
#endif
    return levels;
}
