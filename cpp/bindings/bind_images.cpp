#include "images.h"
#include "vivace/resample.h"

namespace vivace::bindings {
namespace {

struct Flip {
    bool vertical, horizontal;
};

ToneChange change_named(const Arguments& arg, const std::string& name) {
    if (name == "brightness") return ToneChange::brightness;
    if (name == "contrast") return ToneChange::contrast;
    if (name == "solarization") return ToneChange::solarization;
    if (name == "degeneration") return ToneChange::degeneration;
    if (name == "grayscale") return ToneChange::grayscale;
    if (name == "inversion") return ToneChange::inversion;
    if (name == "posterization") return ToneChange::posterization;
    if (name == "hue") return ToneChange::hue;
    if (name == "saturation") return ToneChange::saturation;
    arg.fail("change", "must be the name of a ToneChange", name);
}

void check_channels(const Arguments& arg, const Tone& tone, const Images& s) {
    const index channels = s.c * s.share;
    const bool in_colors = tone.change == ToneChange::hue || tone.change == ToneChange::saturation;
    const bool in_gray = tone.change == ToneChange::degeneration || tone.change == ToneChange::grayscale;
    if (in_colors && channels != 3) arg.fail("x", "must have three channels", std::to_string(channels));
    if (in_gray && channels != 3 && channels != 1) arg.fail("x", "must have three channels, or one", std::to_string(channels));
}

void bind_tone(py::module_& m) {
    using Change = OfImages<Tone>;
    py::class_<Change>(m, "RandomTone", py::module_local())
        .def(py::init([](const std::string& change, const Two& first, const Two& second, const Two& range, bool channels_first) {
                 const ToneChange named = change_named(Arguments("RandomTone"), change);
                 return Change{{named, {first[0], second[0]}, {first[1], second[1]}, range[0], range[1]}, channels_first};
             }),
             py::arg("change"), py::arg("first"), py::arg("second"), py::arg("value_range"), py::arg("channels_first") = false);
    m.def(
        "random_tone_forward",
        [](const Change& tone, std::uint64_t seed, std::uint64_t stream, const py::array& x, const py::array& y) {
            const Arguments arg("random_tone_forward");
            check_channels(arg, tone, images_of(arg, x, "x", tone.channels_first));
            with_images("random_tone_forward", tone.channels_first, x, "x", y, "y",
                        [&](const Images& s, auto* px, auto* py) { random_tone_forward(s, tone, seed, stream, px, py); });
        },
        py::arg("tone"), py::arg("seed"), py::arg("stream"), py::arg("x"), py::arg("y"));
    m.def(
        "random_tone_backward",
        [](const Change& tone, std::uint64_t seed, std::uint64_t stream, const py::array& x, const py::array& dy,
           const py::array& dx) {
            const Arguments arg("random_tone_backward");
            const Images s = images_of(arg, x, "x", tone.channels_first);
            check_channels(arg, tone, s);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.size());
                const T* pdy = arg.in<T>(dy, "dy", {x.shape(0), x.shape(1), x.shape(2), x.shape(3)});
                T* pdx = arg.out<T>(dx, "dx", {x.shape(0), x.shape(1), x.shape(2), x.shape(3)});
                without_gil([&] { random_tone_backward(s, tone, seed, stream, px, pdy, pdx); });
            });
        },
        py::arg("tone"), py::arg("seed"), py::arg("stream"), py::arg("x"), py::arg("dy"), py::arg("dx"));
}

// Changes of each channel by what it holds: of images (first: their channels come first), into a range.
void bind_contrast(py::module_& m) {
    const auto check_range = [](const char* op, const Two& range) {
        if (!(range[0] < range[1]))
            Arguments(op).fail("value_range", "must be (lower, upper)", std::to_string(range[0]) + ", " + std::to_string(range[1]));
    };
    m.def(
        "stretch_forward",
        [=](bool channels_first, const Two& range, const py::array& x, const py::array& y) {
            check_range("stretch_forward", range);
            with_images("stretch_forward", channels_first, x, "x", y, "y",
                        [&](const Images& s, auto* px, auto* py) { stretch_forward(s, range[0], range[1], px, py); });
        },
        py::arg("channels_first"), py::arg("value_range"), py::arg("x"), py::arg("y"));
    m.def(
        "stretch_backward",
        [=](bool channels_first, const Two& range, const py::array& x, const py::array& dy, const py::array& dx) {
            const Arguments arg("stretch_backward");
            check_range("stretch_backward", range);
            const Images s = images_of(arg, x, "x", channels_first);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T *px = arg.in_flat<T>(x, "x", s.size()), *pdy = arg.in_flat<T>(dy, "dy", s.size());
                T* pdx = arg.out_flat<T>(dx, "dx", s.size());
                without_gil([&] { stretch_backward(s, range[0], range[1], px, pdy, pdx); });
            });
        },
        py::arg("channels_first"), py::arg("value_range"), py::arg("x"), py::arg("dy"), py::arg("dx"));
    m.def(
        "equalize",
        [=](bool channels_first, index bins, const Two& range, const py::array& x, const py::array& y) {
            check_range("equalize", range);
            if (bins < 1 || bins > 65536) Arguments("equalize").fail("bins", "must lie in 1 ... 65536", std::to_string(bins));
            with_images("equalize", channels_first, x, "x", y, "y",
                        [&](const Images& s, auto* px, auto* py) { equalize(s, bins, range[0], range[1], px, py); });
        },
        py::arg("channels_first"), py::arg("bins"), py::arg("value_range"), py::arg("x"), py::arg("y"));
}

// What is around a part of the images, which begins where the numbers say.
Margins around_part(const Arguments& arg, bool channels_first, const py::array& whole, const char* whole_name,
                    const py::array& part, const char* part_name, std::uint64_t seed, std::uint64_t stream) {
    const Images s = images_of(arg, whole, whole_name, channels_first), p = images_of(arg, part, part_name, channels_first);
    if (p.n != s.n || p.c != s.c || p.share != s.share || p.h > s.h || p.w > s.w)
        arg.fail(part_name, "must be a part of " + std::string(whole_name) + " of shape " + tuple_text(whole.shape(), 4),
                 "shape " + tuple_text(part.shape(), 4));
    const Corner at = random_corner(s, p.h, p.w, seed, stream);
    return {s.n, {1, p.h, p.w}, {0, at.top, at.left}, {0, s.h - p.h - at.top, s.w - p.w - at.left}, s.c};
}

void bind_random_crop(py::module_& m) {
    m.def(
        "random_crop_forward",
        [](bool channels_first, std::uint64_t seed, std::uint64_t stream, const py::array& x, const py::array& y) {
            const Arguments arg("random_crop_forward");
            const Margins s = around_part(arg, channels_first, x, "x", y, "y", seed, stream);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.outer_size());
                T* py = arg.out_flat<T>(y, "y", s.inner_size());
                without_gil([&] { crop(s, px, py); });
            });
        },
        py::arg("channels_first"), py::arg("seed"), py::arg("stream"), py::arg("x"), py::arg("y"));
    m.def(
        "random_crop_backward",
        [](bool channels_first, std::uint64_t seed, std::uint64_t stream, const py::array& dy, const py::array& dx) {
            const Arguments arg("random_crop_backward");
            const Margins s = around_part(arg, channels_first, dx, "dx", dy, "dy", seed, stream);
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in_flat<T>(dy, "dy", s.inner_size());
                T* pdx = arg.out_flat<T>(dx, "dx", s.outer_size());
                without_gil([&] { pad(s, pdy, pdx); });
            });
        },
        py::arg("channels_first"), py::arg("seed"), py::arg("stream"), py::arg("dy"), py::arg("dx"));
}

}  // namespace

void bind_images(py::module_& m) {
    py::class_<OfImages<Flip>>(m, "RandomFlip", py::module_local())
        .def(py::init([](bool vertical, bool horizontal, bool channels_first) {
                 return OfImages<Flip>{{vertical, horizontal}, channels_first};
             }),
             py::arg("vertical"), py::arg("horizontal"), py::arg("channels_first") = false);
    m.def(
        "random_flip",
        [](const OfImages<Flip>& flip, std::uint64_t seed, std::uint64_t stream, const py::array& x, const py::array& y) {
            if (x.data() == y.data() && x.size() > 0) Arguments("random_flip").fail("y", "must not be x", "the same array");
            with_images("random_flip", flip.channels_first, x, "x", y, "y", [&](const Images& s, auto* px, auto* py) {
                random_flip(s, flip.vertical, flip.horizontal, seed, stream, px, py);
            });
        },
        py::arg("flip"), py::arg("seed"), py::arg("stream"), py::arg("x"), py::arg("y"));
    bind_tone(m);
    bind_contrast(m);
    bind_random_crop(m);
}

}  // namespace vivace::bindings
