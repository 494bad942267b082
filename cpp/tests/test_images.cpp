#include "check.h"
#include "philox.h"
#include "vivace/images.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

constexpr std::uint64_t seed = 21, stream = 4;

double drawn(const Images& s, index image, int which) {
    double found = 0;
    for_each_draw(seed, stream, s.drawn(), [&](index i, const double(&u)[4]) { found = i == image / s.share ? u[which] : found; });
    return found;
}

// Calls f(element, image, row, column, channel) for all elements.
template <class F>
void for_each_element(const Images& s, F&& f) {
    std::size_t element = 0;
    for (index i = 0; i < s.n; ++i)
        for (index p = 0; p < s.h; ++p)
            for (index q = 0; q < s.w; ++q)
                for (index c = 0; c < s.c; ++c) f(element++, i, p, q, c);
}

std::size_t place(const Images& s, index i, index p, index q, index c) {
    return static_cast<std::size_t>(((i * s.h + p) * s.w + q) * s.c + c);
}

template <class T>
void flips_and_corners(const Images& s, const std::string& context) {
    const auto x = integers<T>(s.size());
    auto y = unset<T>(s.size()), expected = y, back = y;
    for (bool vertical : {false, true})
        for (bool horizontal : {false, true}) {
            random_flip(s, vertical, horizontal, seed, stream, x.data(), y.data());
            for_each_element(s, [&](std::size_t e, index i, index p, index q, index c) {
                const bool v = vertical && drawn(s, i, 0) < 0.5, h = horizontal && drawn(s, i, 1) < 0.5;
                expected[e] = x[place(s, i, v ? s.h - 1 - p : p, h ? s.w - 1 - q : q, c)];
            });
            CHECK_EQUAL(y, expected, context);
            random_flip(s, vertical, horizontal, seed, stream, y.data(), back.data());
            CHECK_EQUAL(back, x, context);
        }
    const index height = (s.h + 1) / 2, width = (s.w + 1) / 2;
    const Corner corner = random_corner(s, height, width, seed, stream);
    CHECK_FOR(corner.top == static_cast<index>(drawn(s, 0, 0) * static_cast<double>(s.h - height + 1)), context);
    CHECK_FOR(corner.left == static_cast<index>(drawn(s, 0, 1) * static_cast<double>(s.w - width + 1)), context);
}

constexpr ToneChange changes[] = {ToneChange::brightness,   ToneChange::contrast,  ToneChange::solarization,
                                  ToneChange::degeneration, ToneChange::grayscale, ToneChange::inversion,
                                  ToneChange::hue,          ToneChange::saturation};

// A channel (0 red, 1 green, 2 blue) of the color of such hue (in circles), saturation and value.
double of_hsv(double hue, double saturation, double value, index channel) {
    const double sixths = 6 * (hue - std::floor(hue));
    const double lies = std::fabs(sixths - (channel == 0 ? 3 : channel == 1 ? 2 : 4));
    const double share = std::clamp(channel == 0 ? lies - 1 : 2 - lies, 0.0, 1.0);
    return value * (1 - saturation + saturation * share);
}

// A pixel's channel under a change of hue or saturation, by way of those.
double turned(const Tone& tone, double first, double chance, const double (&rgb)[3], index channel) {
    const bool hue_changes = tone.change == ToneChange::hue;
    const double low = hue_changes ? tone.least : 0, width = hue_changes ? tone.most - tone.least : 1;
    const double r = (rgb[0] - low) / width, g = (rgb[1] - low) / width, b = (rgb[2] - low) / width;
    const double value = std::max({r, g, b}), spread = value - std::min({r, g, b});
    double saturation = value > 0 ? spread / value : 0;
    double hue = spread == 0 ? 0 : value == r ? (g - b) / spread / 6 : value == g ? (b - r) / spread / 6 + 1 / 3.0 : (r - g) / spread / 6 + 2 / 3.0;
    if (hue_changes) hue += chance < 0.5 ? first : -first;
    else saturation = std::clamp(saturation * first / (1 - first + 1e-7), tone.least, tone.most);
    const double y = of_hsv(hue, saturation, value, channel);
    return hue_changes ? low + width * std::clamp(y, 0.0, 1.0) : y;
}

// What an element becomes (and whether it was cut), from the formulas; `mean` is its channel's, `gray` its pixel's.
double toned(const Tone& tone, double first, double second, double chance, double x, double mean, double gray, bool& cut) {
    const auto into = [&](double v) {
        cut = v < tone.least || v > tone.most;
        return std::clamp(v, tone.least, tone.most);
    };
    cut = false;
    switch (tone.change) {
        case ToneChange::brightness: return into(x + first);
        case ToneChange::contrast: return into((x - mean) * first + mean);
        case ToneChange::solarization: {
            const double v = into(x + first);
            return v < second ? v : tone.least + tone.most - v;
        }
        case ToneChange::degeneration: return into(x + first * (gray - x));
        case ToneChange::grayscale: return chance < first ? gray : x;
        default: return chance < first ? tone.most - x : x;
    }
}

// All of it, in double precision.
std::vector<double> toned(const Images& s, const Tone& tone, const std::vector<double>& x) {
    constexpr double weights[] = {0.2989, 0.587, 0.114};
    std::vector<double> y(x.size()), means(static_cast<std::size_t>(s.n * s.c)), grays(static_cast<std::size_t>(s.drawn() * s.h * s.w));
    const bool colors = s.c * s.share == 3;
    const auto mean = [&](index i, index c) -> double& { return means[static_cast<std::size_t>(i * s.c + c)]; };
    const auto gray = [&](index i, index p, index q) -> double& {
        return grays[static_cast<std::size_t>((i / s.share * s.h + p) * s.w + q)];
    };
    for_each_element(s, [&](std::size_t e, index i, index p, index q, index c) {
        mean(i, c) += x[e] / static_cast<double>(s.h * s.w);
        if (colors) gray(i, p, q) += weights[s.share == 3 ? i % 3 : c] * x[e];
    });
    for_each_element(s, [&](std::size_t e, index i, index p, index q, index c) {
        const double first = tone.lower[0] + (tone.upper[0] - tone.lower[0]) * drawn(s, i, 0), chance = drawn(s, i, 1);
        const double second = tone.lower[1] + (tone.upper[1] - tone.lower[1]) * chance;
        bool cut;
        if (tone.change == ToneChange::hue || tone.change == ToneChange::saturation) {
            double rgb[3];
            for (index k = 0; k < 3; ++k) rgb[k] = x[s.share == 3 ? place(s, i - i % 3 + k, p, q, 0) : place(s, i, p, q, k)];
            y[e] = turned(tone, first, chance, rgb, s.share == 3 ? i % 3 : c);
            return;
        }
        y[e] = toned(tone, first, second, chance, x[e], mean(i, c), colors ? gray(i, p, q) : x[e], cut);
    });
    return y;
}

template <class T>
void tones(const Images& s, const std::string& images) {
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const auto x = reals<T>(s.size()), dy = reals<T>(s.size());
    const std::vector<double> exact(x.begin(), x.end());
    for (ToneChange change : changes) {
        const bool by_hue = change == ToneChange::hue || change == ToneChange::saturation;
        if (by_hue && s.c * s.share != 3) continue;
        const Tone tone{change, {-0.5, 0.25}, {by_hue ? 0.75 : 1.5, 0.75}, -1, 1.25};
        const std::string context = images + " " + show(static_cast<int>(change));
        auto y = unset<T>(s.size()), dx = y, in_place = dy;
        random_tone_forward(s, tone, seed, stream, x.data(), y.data());
        random_tone_backward(s, tone, seed, stream, x.data(), dy.data(), dx.data());
        random_tone_backward(s, tone, seed, stream, x.data(), in_place.data(), in_place.data());
        CHECK_CLOSE(y, toned(s, tone, exact), 16 * epsilon, 16 * epsilon, context);
        CHECK_FOR(same_bits(dx, in_place), context);
        // The slope along a direction, but where a corner lies between the two ends.
        std::vector<double> ahead = exact, direction(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) direction[i] = static_cast<double>(reals<T>(1)[0]), ahead[i] += 1e-7 * direction[i];
        const auto low = toned(s, tone, exact), high = toned(s, tone, ahead);
        double sum = 0, slope = 0, size = 1;
        bool jumps = false;
        for (std::size_t i = 0; i < x.size(); ++i) {
            jumps = jumps || std::fabs(high[i] - low[i]) > 1e-4;
            sum += (high[i] - low[i]) / 1e-7 * static_cast<double>(dy[i]);
            slope += static_cast<double>(dx[i]) * direction[i];
            size += std::fabs(static_cast<double>(dx[i]) * direction[i]);
        }
        if (jumps) continue;  // over solarization's threshold
        CHECK_FOR(std::fabs(sum - slope) <= size * (1e-6 + 16 * epsilon), context + show(sum, slope));
    }
}

// Element by element: the values of its channel, in order.
template <class T>
void even_contrasts(const Images& s, const std::string& context) {
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    constexpr index bins = 9;
    auto x = integers<T>(s.size());
    const auto dy = reals<T>(s.size());
    auto stretched = unset<T>(s.size()), even = stretched, expected = stretched, expected_even = stretched, dx = stretched;
    std::vector<std::vector<T>> channels(static_cast<std::size_t>(s.n * s.c));
    const auto channel = [&](index i, index c) -> std::vector<T>& { return channels[static_cast<std::size_t>(i * s.c + c)]; };
    for_each_element(s, [&](std::size_t e, index i, index, index, index c) { channel(i, c).push_back(x[e]); });
    for (auto& values : channels) std::sort(values.begin(), values.end());
    const auto bin = [](T v) { return static_cast<index>((static_cast<double>(v) + 4) / 8 * (bins - 1)); };
    for_each_element(s, [&](std::size_t e, index i, index, index, index c) {
        const auto& values = channel(i, c);
        const double low = static_cast<double>(values.front()), high = static_cast<double>(values.back()), v = static_cast<double>(x[e]);
        expected[e] = low < high ? static_cast<T>((v - low) / (high - low) * 8 - 4) : x[e];
        const auto up_to = [&](T value) {
            return static_cast<double>(std::count_if(values.begin(), values.end(), [&](T one) { return bin(one) <= bin(value); }));
        };
        const double none = up_to(values.front()), all = up_to(values.back());
        expected_even[e] = low < high ? static_cast<T>(std::nearbyint((up_to(x[e]) - none) * 255 / (all - none)) / 255 * 8 - 4) : x[e];
    });
    stretch_forward(s, -4, 4, x.data(), stretched.data());
    CHECK_CLOSE(stretched, expected, 16 * epsilon, 16 * epsilon, context);
    equalize(s, bins, -4, 4, x.data(), even.data());
    CHECK_CLOSE(even, expected_even, 16 * epsilon, 16 * epsilon, context);
    // Along the values themselves and along a constant nothing changes but the two ends, which are the range's; what is
    // between them is stretched.
    stretch_backward(s, -4, 4, x.data(), dy.data(), dx.data());
    std::vector<double> along(channels.size()), sums(channels.size()), sizes(channels.size());
    for_each_element(s, [&](std::size_t e, index i, index, index, index c) {
        const std::size_t k = static_cast<std::size_t>(i * s.c + c);
        const bool apart = channels[k].front() < channels[k].back();
        along[k] += apart ? static_cast<double>(dx[e]) * static_cast<double>(x[e]) : 0;
        sums[k] += apart ? static_cast<double>(dx[e]) : 0;
        sizes[k] += 8 * std::fabs(static_cast<double>(dx[e]));
        CHECK_FOR(apart || dx[e] == dy[e], context);
        if (x[e] == channels[k].front() || x[e] == channels[k].back()) return;
        const double inside = static_cast<double>(dy[e]) * 8 / static_cast<double>(channels[k].back() - channels[k].front());
        CHECK_FOR(std::fabs(static_cast<double>(dx[e]) - inside) <= 4 * epsilon * std::fabs(inside), context);
    });
    for (std::size_t k = 0; k < sums.size(); ++k)
        CHECK_FOR(std::fabs(sums[k]) + std::fabs(along[k]) <= 16 * epsilon * (1 + sizes[k]), context + show(sums[k], along[k]));
}

template <class T>
void posterized() {
    const Images s{1, 16, 16, 1};
    std::vector<T> x(256), y(256), expected(256);
    for (int bits : {1, 4, 8}) {
        for (std::size_t i = 0; i < 256; ++i)
            x[i] = static_cast<T>(i), expected[i] = static_cast<T>(static_cast<int>(i) >> (8 - bits) << (8 - bits));
        const double first = bits;
        random_tone_forward(s, Tone{ToneChange::posterization, {first, 0}, {first, 0}, 0, 255}, seed, stream, x.data(), y.data());
        CHECK_EQUAL(y, expected, show(bits));
        random_tone_backward(s, Tone{ToneChange::posterization, {first, 0}, {first, 0}, 0, 255}, seed, stream, x.data(), x.data(),
                             y.data());
        CHECK_EQUAL(y, std::vector<T>(256), show(bits));
    }
}

template <class T>
void threads_agree() {
    const Images s{5, 60, 70, 3};
    const auto x = reals<T>(s.size());
    std::vector<T> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> y(x.size()), all;
        const auto keep = [&] { all.insert(all.end(), y.begin(), y.end()); };
        random_flip(s, true, true, seed, stream, x.data(), y.data()), keep();
        for (ToneChange change : changes) {
            const Tone tone{change, {0.25, 0}, {0.5, 1}, -1, 1};
            random_tone_forward(s, tone, seed, stream, x.data(), y.data()), keep();
            random_tone_backward(s, tone, seed, stream, x.data(), x.data(), y.data()), keep();
        }
        stretch_forward(s, -1, 1, x.data(), y.data()), keep();
        stretch_backward(s, -1, 1, x.data(), x.data(), y.data()), keep();
        equalize(s, 256, -1, 1, x.data(), y.data()), keep();
        if (threads == 1) first = all;
        CHECK_FOR(same_bits(all, first), show(threads));
    }
}

template <class T>
void all() {
    for (const Images& s : {Images{1, 1, 1, 1}, Images{9, 3, 5, 1}, Images{6, 4, 3, 1, 3}, Images{2, 5, 4, 2}, Images{3, 7, 9, 3},
                            Images{2, 3, 2, 5}, Images{2, 6, 3, 17}, Images{1, 30, 40, 3}, Images{1, 2, 90, 64}}) {
        const std::string context = show(s.n, s.h, s.w, s.c, s.share, sizeof(T));
        flips_and_corners<T>(s, context);
        tones<T>(s, context);
        even_contrasts<T>(s, context);
    }
    posterized<T>();
    threads_agree<T>();
}

}  // namespace

void test_images() {
    const int threads = get_num_threads();
    all<float>();
    all<double>();
    set_num_threads(threads);
}

}  // namespace vivace::tests
