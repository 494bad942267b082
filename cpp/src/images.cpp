#include "vivace/images.h"

#include "map.h"
#include "philox.h"
#include "pixels.h"

namespace vivace {
namespace {

// Runs f(task) for so many equal parts of the images.
template <class F>
void share_out(const Images& s, index tasks, double cost, F&& f) {
    parallel_for(tasks, static_cast<double>(s.size()) * cost, [&](index task, int) { f(task); });
}

// A number between lower and upper for every image, those that belong together having the same.
template <class T>
void draw_tones(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, T* numbers) {
    for_each_draw(seed, stream, s.drawn(), [&](index i, const double(&u)[4]) {
        std::fill_n(numbers + i * s.share, s.share, static_cast<T>(tone.lower + (tone.upper - tone.lower) * u[0]));
    });
}

template <class T>
VIVACE_INLINE vec<T> cut(vec<T> v, T least, T most) {  // NaN stays
    v = v < least ? broadcast(least) : v;
    return v > most ? broadcast(most) : v;
}

template <class T>
VIVACE_INLINE vec<T> where_inside(vec<T> v, T least, T most, vec<T> d) {
    return (v >= least) & (v <= most) ? d : vec<T>{};
}

// That many values are summed side by side: enough registers not to wait for each other's additions.
template <class T>
index sums_size(index channels) {
    const index size = repeated_size<T>(channels);
    return size < 4 * lanes<T> ? 4 * size : size;
}

// The means of f(i, j, n), registers of an image's elements (0 past the last one), for each channel; repeated as `pixels.h` has
// it. `sums` has room for as many doubles as there are channels.
template <class T, class F>
VIVACE_INLINE void channel_means(const Images& s, index repeated, T* means, double* sums, F&& f) {
    constexpr index at_once = 64;  // registers summed in a row: the sums of these are added in double precision
    const index size = s.h * s.w * s.c;
    std::fill_n(sums, s.c, 0.0);
    for (index first = 0; first < size; first += at_once * repeated) {
        std::fill_n(means, repeated, T{});
        const index end = std::min(size, first + at_once * repeated);
        for_each_in_pixels<T>(end - first, repeated, [&](index i, index j, auto n) {
            store(means + j, load(means + j) + f(first + i, j, n));
        });
        for (index j = 0; j < repeated; ++j) sums[j % s.c] += static_cast<double>(means[j]);
    }
    for (index c = 0; c < s.c; ++c) means[c] = static_cast<T>(sums[c] / static_cast<double>(s.h * s.w));
    repeat(s.c, repeated, means);
}

}  // namespace

template <class T>
void random_flip(const Images& s, bool vertical, bool horizontal, std::uint64_t seed, std::uint64_t stream, const T* x, T* y) {
    struct Flip {
        bool vertical, horizontal;
    };
    Scratch<Flip> flips(s.drawn());
    for_each_draw(seed, stream, s.drawn(), [&](index i, const double(&u)[4]) {
        flips[i] = {vertical && u[0] < 0.5, horizontal && u[1] < 0.5};
    });
    with_few(s.c, [&](auto few) {
        share_out(s, s.n * s.h, cheap, [&](index task) {
            const index image = task / s.h, row = task % s.h, c = few > 0 ? index{few} : s.c;
            const Flip flip = flips[image / s.share];
            const T* from = x + (image * s.h + (flip.vertical ? s.h - 1 - row : row)) * s.w * c;
            T* to = y + task * s.w * c;
            if (!flip.horizontal) return std::copy_n(from, s.w * c, to), void();
            for (index q = 0; q < s.w; ++q)
                for (index k = 0; k < c; ++k) to[q * c + k] = from[(s.w - 1 - q) * c + k];
        });
    });
}

Corner random_corner(const Images& s, index height, index width, std::uint64_t seed, std::uint64_t stream) {
    Corner corner{};
    for_each_draw(seed, stream, 1, [&](index, const double(&u)[4]) {
        corner = {static_cast<index>(u[0] * static_cast<double>(s.h - height + 1)),
                  static_cast<index>(u[1] * static_cast<double>(s.w - width + 1))};
    });
    return corner;
}

template <class T>
void crop_forward(const Images& s, Corner corner, index height, index width, const T* x, T* y) {
    parallel_for(s.n * height, static_cast<double>(s.n * height * width * s.c) * cheap, [&](index task, int) {
        const index row = task / height * s.h + corner.top + task % height;
        std::copy_n(x + (row * s.w + corner.left) * s.c, width * s.c, y + task * width * s.c);
    });
}

template <class T>
void crop_backward(const Images& s, Corner corner, index height, index width, const T* dy, T* dx) {
    share_out(s, s.n * s.h, cheap, [&](index task) {
        const index row = task % s.h - corner.top;
        T *to = dx + task * s.w * s.c, *inside = to + corner.left * s.c;
        if (row < 0 || row >= height) return std::fill_n(to, s.w * s.c, T{}), void();
        std::fill(to, inside, T{});
        std::copy_n(dy + (task / s.h * height + row) * width * s.c, width * s.c, inside);
        std::fill(inside + width * s.c, to + s.w * s.c, T{});
    });
}

template <class T>
void random_brightness_forward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x, T* y) {
    const T least = static_cast<T>(tone.least), most = static_cast<T>(tone.most);
    Scratch<T> numbers(s.n);
    draw_tones(s, tone, seed, stream, numbers.get());
    const index row = s.w * s.c;
    share_out(s, s.n * s.h, cheap, [&](index task) {
        const T number = numbers[task / s.h];
        for_each_vector<T>(row, [&](index i, auto n) {
            store_n(y + task * row + i, cut<T>(load_n(x + task * row + i, n) + number, least, most), n);
        });
    });
}

template <class T>
void random_brightness_backward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x,
                                const T* dy, T* dx) {
    const T least = static_cast<T>(tone.least), most = static_cast<T>(tone.most);
    Scratch<T> numbers(s.n);
    draw_tones(s, tone, seed, stream, numbers.get());
    const index row = s.w * s.c;
    share_out(s, s.n * s.h, cheap, [&](index task) {
        const T number = numbers[task / s.h];
        for_each_vector<T>(row, [&](index i, auto n) {
            const vec<T> d = load_n(dy + task * row + i, n);
            store_n(dx + task * row + i, where_inside<T>(load_n(x + task * row + i, n) + number, least, most, d), n);
        });
    });
}

template <class T>
void random_contrast_forward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x, T* y) {
    const T least = static_cast<T>(tone.least), most = static_cast<T>(tone.most);
    const index repeated = sums_size<T>(s.c), size = s.h * s.w * s.c;
    const int threads = get_num_threads();
    Scratch<T> numbers(s.n), means(threads * repeated);
    Scratch<double> sums(threads * s.c);
    draw_tones(s, tone, seed, stream, numbers.get());
    parallel_for(s.n, static_cast<double>(s.size()) * 2 * cheap, threads, [&](index image, int thread) {
        const T number = numbers[image], *from = x + image * size;
        T *mean = means + thread * repeated, *to = y + image * size;
        channel_means<T>(s, repeated, mean, sums + thread * s.c, [&](index i, index, auto n) { return load_n(from + i, n); });
        for_each_in_pixels<T>(size, repeated, [&](index i, index j, auto n) {
            const vec<T> m = load(mean + j);
            store_n(to + i, cut<T>((load_n(from + i, n) - m) * number + m, least, most), n);
        });
    });
}

template <class T>
void random_contrast_backward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x,
                              const T* dy, T* dx) {
    const T least = static_cast<T>(tone.least), most = static_cast<T>(tone.most);
    const index repeated = sums_size<T>(s.c), size = s.h * s.w * s.c;
    const int threads = get_num_threads();
    Scratch<T> numbers(s.n), means(threads * 2 * repeated);
    Scratch<double> sums(threads * s.c);
    draw_tones(s, tone, seed, stream, numbers.get());
    parallel_for(s.n, static_cast<double>(s.size()) * 3 * cheap, threads, [&](index image, int thread) {
        const T number = numbers[image], *from = x + image * size, *d = dy + image * size;
        T *mean = means + thread * 2 * repeated, *gradients_mean = mean + repeated, *to = dx + image * size;
        double* own_sums = sums + thread * s.c;
        const auto inside = [&](index i, index j, auto n) {
            const vec<T> m = load(mean + j);
            return where_inside<T>((load_n(from + i, n) - m) * number + m, least, most, load_n(d + i, n));
        };
        channel_means<T>(s, repeated, mean, own_sums, [&](index i, index, auto n) { return load_n(from + i, n); });
        channel_means<T>(s, repeated, gradients_mean, own_sums, inside);
        for_each_in_pixels<T>(size, repeated, [&](index i, index j, auto n) {
            store_n(to + i, inside(i, j, n) * number + (T{1} - number) * load(gradients_mean + j), n);
        });
    });
}

#define INSTANTIATE(T)                                                                                                  \
    template void random_flip(const Images&, bool, bool, std::uint64_t, std::uint64_t, const T*, T*);                   \
    template void crop_forward(const Images&, Corner, index, index, const T*, T*);                                      \
    template void crop_backward(const Images&, Corner, index, index, const T*, T*);                                     \
    template void random_brightness_forward(const Images&, const Tone&, std::uint64_t, std::uint64_t, const T*, T*);    \
    template void random_brightness_backward(const Images&, const Tone&, std::uint64_t, std::uint64_t, const T*,        \
                                             const T*, T*);                                                             \
    template void random_contrast_forward(const Images&, const Tone&, std::uint64_t, std::uint64_t, const T*, T*);      \
    template void random_contrast_backward(const Images&, const Tone&, std::uint64_t, std::uint64_t, const T*,          \
                                           const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
