// What the kernels take from simd.h and positions.h beyond plain arithmetic: each level has its own intrinsics for it.
#include <limits>

#include "check.h"
#include "positions.h"

namespace vivace::tests {
namespace {

template <class T>
vec<T> counting(index from) {
    vec<T> v;
    for (index i = 0; i < lanes<T>; ++i) v[i] = static_cast<T>(from + i);
    return v;
}

template <class V>
bool equal(V a, V b) {
    return std::memcmp(&a, &b, sizeof(V)) == 0;
}

// Neither reads nor writes past n elements, where the memory ends.
template <class T>
void partial_registers() {
    for (index n = 1; n <= lanes<T>; ++n) {
        AtTheEnd<T> memory(n);
        for (index i = 0; i < n; ++i) memory[i] = static_cast<T>(10 + i);
        vec<T> expected{};
        for (index i = 0; i < n; ++i) expected[i] = static_cast<T>(10 + i);
        CHECK_FOR(equal(load_partial(memory.data(), n), expected), show(n));
        store_partial(memory.data(), counting<T>(50), n);
        for (index i = 0; i < n; ++i) CHECK_FOR(memory[i] == static_cast<T>(50 + i), show(n, i));

        std::vector<T> longer(static_cast<std::size_t>(2 * lanes<T>), T{7});
        store_partial(longer.data(), counting<T>(50), n);
        for (index i = 0; i < 2 * lanes<T>; ++i)
            CHECK_FOR(longer[static_cast<std::size_t>(i)] == (i < n ? static_cast<T>(50 + i) : T{7}), show(n, i));
    }
}

template <class T>
void transposing() {
    vec<T> rows[lanes<T>];
    for (index i = 0; i < lanes<T>; ++i) rows[i] = counting<T>(i * lanes<T>);
    transpose<T>(rows);
    for (index i = 0; i < lanes<T>; ++i)
        for (index j = 0; j < lanes<T>; ++j) CHECK_FOR(rows[i][j] == static_cast<T>(j * lanes<T> + i), show(i, j));
}

template <class T>
void comparison_bits() {
    for (int repeat = 0; repeat < 100; ++repeat) {
        const std::uint32_t wanted = static_cast<std::uint32_t>(rng()) & ((std::uint32_t{1} << lanes<T>) - 1);
        vec<T> v;
        for (index i = 0; i < lanes<T>; ++i) v[i] = wanted >> i & 1 ? T{1} : T{-1};
        CHECK_FOR(bits<T>(v > vec<T>{}) == wanted, show(wanted));
    }
    CHECK(bits<T>(vec<T>{} == vec<T>{}) == (std::uint32_t{1} << lanes<T>) - 1);
    CHECK(bits<T>(vec<T>{} != vec<T>{}) == 0);
}

void choices_of_four() {
    for (int repeat = 0; repeat < 100; ++repeat) {
        vec<std::int32_t> choice;
        for (index i = 0; i < lanes<float>; ++i) choice[i] = static_cast<std::int32_t>(random_index(0, 3));
        const vec<float> table = counting<float>(100), chosen = choose_of_four(table, choice);
        for (index i = 0; i < lanes<float>; ++i) CHECK_FOR(chosen[i] == table[i - i % 4 + choice[i]], show(i, choice[i]));
    }
    AtTheEnd<float> four(4);
    for (index i = 0; i < 4; ++i) four[i] = static_cast<float>(i);
    const vec<float> repeated = broadcast_four(four.data());
    for (index i = 0; i < lanes<float>; ++i) CHECK_FOR(repeated[i] == static_cast<float>(i % 4), show(i));
}

// n positions at the end of memory: bytes as the pooling ops keep them, 32 bits as global pooling's.
template <class T, class Position>
void narrow_positions() {
    for (index n = 1; n <= lanes<T>; ++n) {
        AtTheEnd<Position> memory(n);
        vec<int_of<T>> positions;
        for (index i = 0; i < lanes<T>; ++i) positions[i] = static_cast<int_of<T>>(rng() % 256);
        const auto check_all = [&](auto count) {
            store_positions<T>(memory.data(), positions, count);
            const vec<int_of<T>> back = load_positions<T>(static_cast<const Position*>(memory.data()), count);
            for (index i = 0; i < lanes<T>; ++i) {
                if (i < n) CHECK_FOR(static_cast<int_of<T>>(memory[i]) == positions[i], show(n, i));
                CHECK_FOR(back[i] == (i < n ? positions[i] : 0), show(n, i));
            }
        };
        check_all(n);
        if (n == lanes<T>) check_all(std::integral_constant<index, lanes<T>>());
    }
}

// Of every choice of lanes.
template <class T>
void compressing() {
    vec<T> v;
    for (index i = 0; i < lanes<T>; ++i) v[i] = static_cast<T>(i + 1);
    for (std::uint32_t bits = 0; bits < 1u << lanes<T>; ++bits) {
        const vec<T> chosen = compress<T>(v, bits);
        index count = 0;
        for (index i = 0; i < lanes<T>; ++i)
            if (bits >> i & 1) CHECK_FOR(chosen[count++] == v[i], show(bits, i));
    }
}

// Against four comparisons in a row, over all draws of four values, equal ones and infinities among them.
template <class T>
void winners() {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const T values[] = {-infinity, -1, 0, 1, infinity};
    for (int draw = 0; draw < 5 * 5 * 5 * 5; ++draw) {
        const T v[4] = {values[draw % 5], values[draw / 5 % 5], values[draw / 25 % 5], values[draw / 125]};
        const index best = std::max_element(v, v + 4) - v;  // the first of equals
        const Winner<T> winner =
            winner_of_four<T>(broadcast(v[0]), broadcast(v[1]), broadcast(v[2]), broadcast(v[3]));
        CHECK_FOR(equal(winner.value, broadcast(v[best])), show(v[0], v[1], v[2], v[3]));
        CHECK_FOR(equal(winner.position, vec<int_of<T>>{} + static_cast<int_of<T>>(best)), show(v[0], v[1], v[2], v[3]));
        vec<T> sum{};
        const Winner<T> quick =
            winner_of_four<false, T>(broadcast(v[0]), broadcast(v[1]), broadcast(v[2]), broadcast(v[3]), sum);
        CHECK_FOR(equal(quick.value, winner.value) && equal(quick.position, winner.position), show(v[0], v[1], v[2], v[3]));
    }
    for (int at = 0; at < 4; ++at) {
        T v[4] = {infinity, infinity, infinity, infinity};
        v[at] = std::numeric_limits<T>::quiet_NaN();
        const Winner<T> winner =
            winner_of_four<T>(broadcast(v[0]), broadcast(v[1]), broadcast(v[2]), broadcast(v[3]));
        for (index i = 0; i < lanes<T>; ++i)
            CHECK_FOR(std::isnan(winner.value[i]) && winner.position[i] == at, show(at, winner.position[i]));
        int runs = 0;  // the second one with care
        pool_with_care<T>([&](auto careful, vec<T>& sum) {
            winner_of_four<careful.value, T>(broadcast(v[0]), broadcast(v[1]), broadcast(v[2]), broadcast(v[3]), sum);
            CHECK(careful.value == (runs++ == 1));
        });
        CHECK_FOR(runs == 2, show(at));
    }
    // Each lane by itself.
    vec<T> v[4] = {};
    for (index i = 0; i < lanes<T>; ++i) v[i % 4][i] = static_cast<T>(i + 1);
    const Winner<T> winner = winner_of_four<T>(v[0], v[1], v[2], v[3]);
    for (index i = 0; i < lanes<T>; ++i)
        CHECK_FOR(winner.value[i] == static_cast<T>(i + 1) && winner.position[i] == i % 4, show(i));
}

template <class T>
void all() {
    partial_registers<T>();
    transposing<T>();
    comparison_bits<T>();
    compressing<T>();
    compressing<int_of<T>>();
    narrow_positions<T, std::uint8_t>();
    narrow_positions<T, std::int32_t>();
    winners<T>();
}

}  // namespace

void test_simd() {
    all<float>();
    all<double>();
    choices_of_four();
}

}  // namespace vivace::tests
