#include "vivace/images.h"

#include <cmath>
#include <limits>
#include <tuple>

#include "map.h"
#include "philox.h"
#include "pixels.h"
#include "vmath.h"

namespace vivace {
namespace {

// Runs f(task) for so many equal parts of the images.
template <class F>
void share_out(const Images& s, index tasks, double cost, F&& f) {
    parallel_for(tasks, static_cast<double>(s.size()) * cost, [&](index task, int) { f(task); });
}

// What a change of tone does to one image: v = cut(slope x + gray_part gray + offset), where one of the last two is 0, and
// turn - v where that is not below the threshold (never, if that is NaN). Of contrast, `slope` is the number.
template <class T>
struct Toning {
    T slope = 1, gray_part = 0, offset = 0, threshold = std::numeric_limits<T>::quiet_NaN(), turn = 0;
    T least = -std::numeric_limits<T>::infinity(), most = std::numeric_limits<T>::infinity();
    // Of hue and saturation: by how many sixths of a circle the hue is turned, C's factor, and the smallest and largest part of
    // V - origin that it may become.
    T turned = 0, factor = 1, origin = 0, lowest = least, highest = most;

    // Of posterization: how many of 256 steps become one, 0 if it is none.
    T steps = 0;

    VIVACE_INLINE vec<T> posterized(vec<T> x) const {
        const T width = most - least;
        const bool bytes = least == T{0} && width == T{255};  // which stay what they are
        x = cut(x);
        const auto whole = [](vec<T> v) {  // of numbers that are not negative
            return __builtin_convertvector(__builtin_convertvector(v, vec<int_of<T>>), vec<T>);
        };
        const vec<T> known = x == x ? x : vec<T>{} + least;  // a NaN has no whole part
        const vec<T> kept = whole((bytes ? known : (known - least) / width * T{255}) / steps) * steps;
        return x == x ? (bytes ? kept : kept / T{255} * width + least) : x;
    }
    VIVACE_INLINE vec<T> raw(vec<T> x) const { return slope * x + offset; }
    VIVACE_INLINE vec<T> raw(vec<T> x, vec<T> gray) const {  // without a part of it, not even its NaNs count
        return gray_part == T{0} ? raw(x) : slope * x + gray_part * gray;
    }
    VIVACE_INLINE vec<T> cut(vec<T> v) const {  // NaN stays
        v = v < least ? broadcast(least) : v;
        return v > most ? broadcast(most) : v;
    }
    VIVACE_INLINE vec<T> value(vec<T> v) const {
        v = cut(v);
        return v >= threshold ? turn - v : v;
    }
    VIVACE_INLINE vec<T> gradient(vec<T> v, vec<T> d) const {
        d = (v >= least) & (v <= most) ? d : vec<T>{};
        return v >= threshold ? -d : d;
    }
};

template <class T>
Toning<T> toning(const Tone& tone, const double (&u)[4]) {
    const double first = tone.lower[0] + (tone.upper[0] - tone.lower[0]) * u[0];
    const double second = tone.lower[1] + (tone.upper[1] - tone.lower[1]) * u[1];
    const T number = static_cast<T>(first);
    Toning<T> t;
    t.least = static_cast<T>(tone.least), t.most = static_cast<T>(tone.most);
    switch (tone.change) {
        case ToneChange::brightness: t.offset = number; return t;
        case ToneChange::contrast: t.slope = number; return t;
        case ToneChange::solarization:
            t.offset = number, t.threshold = static_cast<T>(second), t.turn = static_cast<T>(tone.least + tone.most);
            return t;
        case ToneChange::degeneration: t.slope = T{1} - number, t.gray_part = number; return t;
        case ToneChange::grayscale: {
            Toning<T> gray;
            if (u[1] < first) gray.slope = 0, gray.gray_part = 1;
            return gray;
        }
        case ToneChange::inversion: {
            Toning<T> inverted;
            if (u[1] < first) inverted.slope = -1, inverted.offset = t.most;
            return inverted;
        }
        case ToneChange::posterization: {
            const double bits = std::floor(std::min(first, std::max(tone.upper[0] - 1, tone.lower[0])));
            t.slope = 0, t.steps = static_cast<T>(std::exp2(8 - bits));
            return t;
        }
        case ToneChange::hue: t.turned = 6 * (u[1] < 0.5 ? number : -number), t.origin = t.least; return t;
        case ToneChange::saturation: {
            Toning<T> saturated;
            saturated.factor = static_cast<T>(first / (1 - first + 1e-7)), saturated.lowest = t.least, saturated.highest = t.most;
            return saturated;
        }
    }
    return t;
}

// The toning of every image, those that belong together having the same.
template <class T>
void draw_tonings(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, Toning<T>* tonings) {
    for_each_draw(seed, stream, s.drawn(), [&](index i, const double(&u)[4]) {
        std::fill_n(tonings + i * s.share, s.share, toning<T>(tone, u));
    });
}

bool takes_gray(const Tone& tone) { return tone.change == ToneChange::grayscale || tone.change == ToneChange::degeneration; }
bool takes_hue(const Tone& tone) { return tone.change == ToneChange::hue || tone.change == ToneChange::saturation; }

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

namespace {

template <class T>
constexpr T gray_weights[3] = {static_cast<T>(0.2989), static_cast<T>(0.587), static_cast<T>(0.114)};

// So many pixels of three channels, elements `apart` from each other, at once: in registers, the channels apart.
template <class T>
struct Pixels {
    alignas(vector_bytes) T part[3][lanes<T>] = {};

    Pixels(const T* from, index apart, index step, index count) {
        for (index c = 0; c < 3; ++c)
            for (index q = 0; q < count; ++q) part[c][q] = from[c * apart + q * step];
    }
    vec<T> channel(int c) const { return load(part[c]); }
    vec<T> gray() const {
        return gray_weights<T>[0] * channel(0) + gray_weights<T>[1] * channel(1) + gray_weights<T>[2] * channel(2);
    }
    void put(T* to, index apart, index step, index count) const {
        for (index c = 0; c < 3; ++c)
            for (index q = 0; q < count; ++q) to[c * apart + q * step] = part[c][q];
    }
};

// Runs f(toning, pixels...) for Pixels of each of the arrays, images of three channels, and puts the last ones to `to`.
// Channel c of a row's pixel q is element c * apart + q * step of the row.
template <class T, class F, class... Inputs>
void map_colors(const Images& s, const Toning<T>* tonings, T* to, F&& f, const Inputs*... x) {
    const index image = s.h * s.w * 3, apart = s.share == 3 ? s.h * s.w : 1, step = s.share == 3 ? 1 : 3;
    share_out(s, s.drawn() * s.h, 2 * cheap, [&](index task) {
        const Toning<T> own = tonings[task / s.h * s.share];
        const index row = task / s.h * image + task % s.h * s.w * step;
        for (index q = 0; q < s.w; q += lanes<T>) {
            const index count = std::min(lanes<T>, s.w - q), first = row + q * step;
            [&](auto&&... pixels) {
                f(own, pixels...);
                std::get<sizeof...(x) - 1>(std::tie(pixels...)).put(to + first, apart, step, count);
            }(Pixels<T>(x + first, apart, step, count)...);
        }
    });
}

template <class T>
void color_forward(const Images& s, const Toning<T>* tonings, const T* x, T* y) {
    map_colors(s, tonings, y, [](const Toning<T>& own, Pixels<T>& pixels) {
        const vec<T> gray = pixels.gray();
        for (int c = 0; c < 3; ++c) store(pixels.part[c], own.value(own.raw(pixels.channel(c), gray)));
    }, x);
}

template <class T>
void color_backward(const Images& s, const Toning<T>* tonings, const T* x, const T* dy, T* dx) {
    map_colors(s, tonings, dx, [](const Toning<T>& own, const Pixels<T>& pixels, Pixels<T>& d) {
        const vec<T> gray = pixels.gray();
        vec<T> sum{};
        for (int c = 0; c < 3; ++c) {
            const vec<T> g = own.gradient(own.raw(pixels.channel(c), gray), d.channel(c));
            sum += g;
            store(d.part[c], own.slope * g);
        }
        for (int c = 0; c < 3; ++c) store(d.part[c], d.channel(c) + own.gray_part * gray_weights<T>[c] * sum);
    }, x, dy);
}

// A pixel's hue in sixths of a circle: `from` for its largest channel, plus (ahead - behind) / spread.
template <class T>
struct Hue {
    using Mask = vec<int_of<T>>;
    vec<T> most, least, spread, difference, sixths;
    Mask red, green, colored;  // which channel is the largest, blue if neither

    Hue(vec<T> r, vec<T> g, vec<T> b, const Toning<T>& own) {
        most = maximum(r, maximum(g, b));
        least = -maximum(-r, maximum(-g, -b));
        spread = most - least;
        red = r == most, green = ~red & (g == most);
        colored = (most > own.origin) & (spread > T{0});
        difference = red ? g - b : green ? b - r : r - g;
        const vec<T> from = red ? vec<T>{} : green ? broadcast(T{2}) : broadcast(T{4});
        sixths = colored ? from + difference / spread + own.turned : vec<T>{};
        for (int turn = 0; turn < 2; ++turn) {
            sixths = sixths < T{0} ? sixths + T{6} : sixths;
            sixths = sixths >= T{6} ? sixths - T{6} : sixths;
        }
    }

    // How much of the spread a channel lacks of the largest at this hue, and the slope of that. Red is the largest around 0 and
    // the smallest around 3, green and blue are the largest around 2 and 4.
    vec<T> lacking(int channel) const {
        const vec<T> away = absolute<T>(sixths - centre(channel)), part = channel == 0 ? T{2} - away : away - T{1};
        return part < T{0} ? vec<T>{} : part > T{1} ? broadcast(T{1}) : part;
    }
    vec<T> slope(int channel) const {
        const vec<T> part = lacking(channel), ahead = broadcast(channel == 0 ? T{-1} : T{1});
        const vec<T> there = sixths > centre(channel) ? ahead : -ahead;
        return (part > T{0}) & (part < T{1}) ? there : vec<T>{};
    }
    static T centre(int channel) { return static_cast<T>(channel == 0 ? 3 : 2 * channel); }
};

// y = V - wanted lacking, where the wanted spread is factor C, within its limits, and 0 without a hue.
template <class T>
VIVACE_INLINE vec<T> wanted_spread(const Hue<T>& hue, const Toning<T>& own) {
    const vec<T> above = hue.most - own.origin, low = own.lowest * above, high = own.highest * above;
    vec<T> wanted = own.factor * hue.spread;
    wanted = wanted > high ? high : wanted < low ? low : wanted;
    return hue.colored ? wanted : vec<T>{};
}

template <class T>
void hue_forward(const Images& s, const Toning<T>* tonings, const T* x, T* y) {
    map_colors(s, tonings, y, [](const Toning<T>& own, Pixels<T>& pixels) {
        const Hue<T> hue(pixels.channel(0), pixels.channel(1), pixels.channel(2), own);
        const vec<T> wanted = wanted_spread(hue, own);
        for (int c = 0; c < 3; ++c) store(pixels.part[c], own.cut(hue.most - wanted * hue.lacking(c)));
    }, x);
}

template <class T>
void hue_backward(const Images& s, const Toning<T>* tonings, const T* x, const T* dy, T* dx) {
    map_colors(s, tonings, dx, [](const Toning<T>& own, const Pixels<T>& pixels, Pixels<T>& d) {
        const Hue<T> hue(pixels.channel(0), pixels.channel(1), pixels.channel(2), own);
        const vec<T> wanted = wanted_spread(hue, own);
        vec<T> to_most{}, to_wanted{}, to_hue{};
        for (int c = 0; c < 3; ++c) {
            const vec<T> part = hue.lacking(c), g = own.gradient(hue.most - wanted * part, d.channel(c));
            to_most += g;
            to_wanted -= g * part;
            to_hue -= g * wanted * hue.slope(c);
        }
        const vec<T> free = own.factor * hue.spread, by_factor = own.factor * to_wanted;
        const auto limited = hue.colored & (wanted != free);
        const vec<T> by_limit = wanted < free ? own.highest * to_wanted : own.lowest * to_wanted;
        const vec<T> to_difference = hue.colored ? to_hue / hue.spread : vec<T>{};
        const vec<T> turned = hue.colored ? to_difference * hue.difference / hue.spread : vec<T>{};
        to_most += limited ? by_limit : vec<T>{};
        const vec<T> to_spread = (hue.colored & ~limited ? by_factor : vec<T>{}) - turned;
        const vec<T> largest = to_most + to_spread;
        for (int c = 0; c < 3; ++c) {
            // Of the difference, the channel behind the largest one, counted round, is ahead, the next behind.
            const auto is_most = c == 0 ? hue.red : c == 1 ? hue.green : ~hue.red & ~hue.green;
            const auto ahead = c == 1 ? hue.red : c == 2 ? hue.green : ~hue.red & ~hue.green;
            vec<T> sum = is_most ? largest : ahead ? to_difference : -to_difference;
            sum -= pixels.channel(c) == hue.least ? to_spread : vec<T>{};
            store(d.part[c], sum);
        }
    }, x, dy);
}

template <class T>
void contrast_forward(const Images& s, const Toning<T>* tonings, const T* x, T* y) {
    const index repeated = sums_size<T>(s.c), size = s.h * s.w * s.c;
    const int threads = get_num_threads();
    Scratch<T> means(threads * repeated);
    Scratch<double> sums(threads * s.c);
    parallel_for(s.n, static_cast<double>(s.size()) * 2 * cheap, threads, [&](index image, int thread) {
        const Toning<T> own = tonings[image];
        const T* from = x + image * size;
        T *mean = means + thread * repeated, *to = y + image * size;
        channel_means<T>(s, repeated, mean, sums + thread * s.c, [&](index i, index, auto n) { return load_n(from + i, n); });
        for_each_in_pixels<T>(size, repeated, [&](index i, index j, auto n) {
            const vec<T> m = load(mean + j);
            store_n(to + i, own.cut((load_n(from + i, n) - m) * own.slope + m), n);
        });
    });
}

// With g = dy where nothing was cut: dx = slope g + (1 - slope) mean(g).
template <class T>
void contrast_backward(const Images& s, const Toning<T>* tonings, const T* x, const T* dy, T* dx) {
    const index repeated = sums_size<T>(s.c), size = s.h * s.w * s.c;
    const int threads = get_num_threads();
    Scratch<T> means(threads * 2 * repeated);
    Scratch<double> sums(threads * s.c);
    parallel_for(s.n, static_cast<double>(s.size()) * 3 * cheap, threads, [&](index image, int thread) {
        const Toning<T> own = tonings[image];
        const T *from = x + image * size, *d = dy + image * size;
        T *mean = means + thread * 2 * repeated, *gradients_mean = mean + repeated, *to = dx + image * size;
        double* own_sums = sums + thread * s.c;
        const auto gradient = [&](index i, index j, auto n) {
            const vec<T> m = load(mean + j);
            return own.gradient((load_n(from + i, n) - m) * own.slope + m, load_n(d + i, n));
        };
        channel_means<T>(s, repeated, mean, own_sums, [&](index i, index, auto n) { return load_n(from + i, n); });
        channel_means<T>(s, repeated, gradients_mean, own_sums, gradient);
        for_each_in_pixels<T>(size, repeated, [&](index i, index j, auto n) {
            store_n(to + i, gradient(i, j, n) * own.slope + (T{1} - own.slope) * load(gradients_mean + j), n);
        });
    });
}

}  // namespace

template <class T>
void random_tone_forward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x, T* y) {
    Scratch<Toning<T>> tonings(s.n);
    draw_tonings(s, tone, seed, stream, tonings.get());
    if (tone.change == ToneChange::contrast) return contrast_forward(s, tonings.get(), x, y);
    if (takes_gray(tone) && s.c * s.share == 3) return color_forward(s, tonings.get(), x, y);
    if (takes_hue(tone)) return hue_forward(s, tonings.get(), x, y);
    const index row = s.w * s.c;
    share_out(s, s.n * s.h, cheap, [&](index task) {
        const Toning<T> own = tonings[task / s.h];
        for_each_vector<T>(row, [&](index i, auto n) {
            const vec<T> v = load_n(x + task * row + i, n);
            store_n(y + task * row + i, own.steps > T{0} ? own.posterized(v) : own.value(own.raw(v, v)), n);
        });
    });
}

template <class T>
void random_tone_backward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x, const T* dy,
                          T* dx) {
    Scratch<Toning<T>> tonings(s.n);
    draw_tonings(s, tone, seed, stream, tonings.get());
    if (tone.change == ToneChange::contrast) return contrast_backward(s, tonings.get(), x, dy, dx);
    if (takes_gray(tone) && s.c * s.share == 3) return color_backward(s, tonings.get(), x, dy, dx);
    if (takes_hue(tone)) return hue_backward(s, tonings.get(), x, dy, dx);
    const index row = s.w * s.c;
    share_out(s, s.n * s.h, cheap, [&](index task) {
        const Toning<T> own = tonings[task / s.h];
        for_each_vector<T>(row, [&](index i, auto n) {
            const vec<T> v = load_n(x + task * row + i, n);
            const vec<T> g = own.gradient(own.raw(v, v), load_n(dy + task * row + i, n));
            store_n(dx + task * row + i, (own.slope + own.gray_part) * g, n);
        });
    });
}

namespace {

// Calls f(first element) for each channel of each image, whose elements are s.c apart.
template <class F>
void for_each_channel(const Images& s, double cost, F&& f) {
    share_out(s, s.n * s.c, cost, [&](index task) { f(task / s.c * s.h * s.w * s.c + task % s.c); });
}

template <class T>
struct Extremes {
    T low, high;
    Extremes(const Images& s, const T* x) : low(*x), high(*x) {
        for (index i = 0; i < s.h * s.w * s.c; i += s.c) {
            if (x[i] < low || x[i] != x[i]) low = x[i];  // a NaN comes to stay
            if (x[i] > high || x[i] != x[i]) high = x[i];
        }
    }
    bool apart() const { return low < high; }
};

}  // namespace

template <class T>
void stretch_forward(const Images& s, double least, double most, const T* x, T* y) {
    if (s.size() == 0) return;
    for_each_channel(s, 2 * cheap, [&](index first) {
        const Extremes<T> own(s, x + first);
        const T start = static_cast<T>(least), end = static_cast<T>(most);
        const double low = static_cast<double>(own.low), slope = (most - least) / (static_cast<double>(own.high) - low);
        for (index i = first; i < first + s.h * s.w * s.c; i += s.c) {
            const double value = (static_cast<double>(x[i]) - low) * slope + least;
            y[i] = own.apart() ? std::clamp(static_cast<T>(value), start, end) : x[i];
        }
    });
}

// Of all values, and of the smallest and the largest, which equal ones share.
template <class T>
void stretch_backward(const Images& s, double least, double most, const T* x, const T* dy, T* dx) {
    if (s.size() == 0) return;
    for_each_channel(s, 4 * cheap, [&](index first) {
        const Extremes<T> own(s, x + first);
        const index last = first + s.h * s.w * s.c;
        const double spread = static_cast<double>(own.high) - static_cast<double>(own.low), slope = (most - least) / spread;
        double to_low = 0, to_high = 0, lowest = 0, highest = 0;
        for (index i = first; i < last; i += s.c) {
            const double part = (static_cast<double>(x[i]) - static_cast<double>(own.low)) / spread;
            to_low -= static_cast<double>(dy[i]) * slope * (1 - part);
            to_high -= static_cast<double>(dy[i]) * slope * part;
            lowest += x[i] == own.low, highest += x[i] == own.high;
        }
        for (index i = first; i < last; i += s.c) {
            const double ends = (x[i] == own.low ? to_low / lowest : 0) + (x[i] == own.high ? to_high / highest : 0);
            dx[i] = own.apart() ? static_cast<T>(static_cast<double>(dy[i]) * slope + ends) : dy[i];
        }
    });
}

template <class T>
void equalize(const Images& s, index bins, double least, double most, const T* x, T* y) {
    if (s.size() == 0) return;
    const int threads = get_num_threads();
    const T start = static_cast<T>(least), width = static_cast<T>(most - least), top = static_cast<T>(bins - 1);
    const auto number = [&](T place) { return place > T{0} ? static_cast<index>(std::min(place, top)) : 0; };
    const Scratch<index> counts(threads * bins);
    parallel_for(s.n * s.c, static_cast<double>(s.size()) * 4 * cheap, threads, [&](index task, int thread) {
        const index first = task / s.c * s.h * s.w * s.c + task % s.c, last = first + s.h * s.w * s.c;
        index* const up_to = counts + thread * bins;
        std::fill_n(up_to, bins, index{0});
        const T scale = T{255} / width, offset = -start * scale;
        for (index i = first; i < last; i += s.c) ++up_to[number((x[i] * scale + offset) * top / T{255})];
        const index filled = std::count_if(up_to, up_to + bins, [](index n) { return n > 0; });
        const index none = *std::find_if(up_to, up_to + bins, [](index n) { return n > 0; });
        for (index b = 1; b < bins; ++b) up_to[b] += up_to[b - 1];
        const T all = static_cast<T>(std::max<index>(1, up_to[bins - 1] - none));
        for (index i = first; i < last; i += s.c) {
            const index below = up_to[number((x[i] * scale + offset) / T{255} * top)] - none;
            const T value = std::nearbyint(static_cast<T>(std::max<index>(0, below)) * T{255} / all);
            y[i] = filled > 1 ? value * (width / T{255}) + start : x[i];
        }
    });
}

#define INSTANTIATE(T)                                                                                                    \
    template void random_flip(const Images&, bool, bool, std::uint64_t, std::uint64_t, const T*, T*);                     \
    template void stretch_forward(const Images&, double, double, const T*, T*);                                           \
    template void stretch_backward(const Images&, double, double, const T*, const T*, T*);                                \
    template void equalize(const Images&, index, double, double, const T*, T*);                                           \
    template void random_tone_forward(const Images&, const Tone&, std::uint64_t, std::uint64_t, const T*, T*);            \
    template void random_tone_backward(const Images&, const Tone&, std::uint64_t, std::uint64_t, const T*, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
