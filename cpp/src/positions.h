// Maxima and their positions: integers of T's width in registers, bytes (or 32 bits) in memory.
#pragma once

#include "simd.h"

namespace vivace {

template <class T, class Position>
struct Narrow {
    typedef Position type __attribute__((vector_size(lanes<T> * sizeof(Position))));
};
template <class T, class Position>
using PositionVector = typename Narrow<T, Position>::type;

template <class T, class Position, class N>
VIVACE_INLINE void store_positions(Position* p, vec<int_of<T>> positions, N n) {
    const auto narrow = __builtin_convertvector(positions, PositionVector<T, Position>);
    std::memcpy(p, &narrow, static_cast<std::size_t>(n) * sizeof(Position));
}

template <class T, class Position, class N>
VIVACE_INLINE vec<int_of<T>> load_positions(const Position* p, N n) {
    PositionVector<T, Position> narrow{};
    std::memcpy(&narrow, p, static_cast<std::size_t>(n) * sizeof(Position));
    return __builtin_convertvector(narrow, vec<int_of<T>>);
}

// The largest value met so far and where; the first of equals wins, NaN wins over all.
template <class T>
struct Winner {
    vec<T> value;
    vec<int_of<T>> position{};

    explicit Winner(vec<T> first) : value(first) {}
    VIVACE_INLINE void meet(vec<T> v, index at) {
        const vec<int_of<T>> wins = (v > value) | (v != v);
        value = wins ? v : value;
        position = wins ? vec<int_of<T>>{} + static_cast<int_of<T>>(at) : position;
    }
};

}  // namespace vivace
