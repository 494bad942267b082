// Convolution of volumes as one of images. The slices that meet in a kernel are put side by side as channels, an image for
// each output slice; that way everything conv2d.h knows (fewer products, packed kernels, threads) serves volumes too. The
// images are made and used up some at a time, so that they stay in cache.
#include "vivace/conv3d.h"

#include "map.h"
#include "pixels.h"
#include "shapes.h"
#include "tile.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace {
namespace {

// Each slice of the input is an image as it is.
bool is_flat(const Conv3DShape& s) { return s.kd == 1 && s.r == s.d && s.stride_d == 1; }

// Output slices [first, first + images.n) of all samples, one after the other.
struct Piece {
    index first;
    Conv2DShape images;
};

template <class T>
index piece_count(const Conv3DShape& s) {
    constexpr index bytes = 1536 * 1024;  // measured: half of that, or three times as much, takes up to a third longer
    const index all = s.images.input_size() * static_cast<index>(sizeof(T));
    return std::clamp<index>(all / bytes, 1, std::max<index>(1, s.images.n));
}

Piece piece_of(const Conv3DShape& s, index count, index i) {
    const Part part(s.images.n, count, i);
    Piece piece{part.first, s.images};
    piece.images.n = part.size();
    return piece;
}

template <class T>
struct Images : Scratch<T> {
    Images(const Conv3DShape& s, index count) : Scratch<T>(piece_of(s, count, count - 1).images.input_size()) {}
};

// Calls f(input row, image row) for the rows that hold the same elements, of each slice of the kernel; for the image's, the
// channels of a group stand kd times as far apart. The input row is -1 where the kernel reaches beyond the volume.
template <class F>
void for_each_row(const Conv3DShape& s, const Piece& piece, index image, index row, F&& f) {
    const index number = piece.first + image, sample = number / s.r, z = number % s.r;
    for (index i = 0; i < s.kd; ++i) {
        const index depth = z * s.stride_d + i * s.dilation_d - s.pad_front;
        const bool inside = depth >= 0 && depth < s.d;
        f(inside ? ((sample * s.d + depth) * s.h + row) * s.w * s.c : index{-1},
          (image * s.h + row) * s.w * s.kd * s.c + i * (s.c / s.groups()));
    }
}

// to (runs, width) = or += from: runs of `width` neighbours, the steps apart. from may be null: zeros.
template <class T, bool add>
void move(index runs, index width, const T* from, index from_step, T* to, index to_step) {
    const auto scalars = [&](auto count) {
        for (index run = 0; run < runs; ++run)
            for (index i = 0; i < count; ++i) {
                const T value = from ? from[run * from_step + i] : T{0};
                T& out = to[run * to_step + i];
                out = add ? out + value : value;
            }
    };
    if (width == 1) return scalars(std::integral_constant<index, 1>{});
    if (width < lanes<T>) return scalars(width);
    for (index run = 0; run < runs; ++run)
        for_each_vector<T>(width, [&](index i, auto n) {
            T* const out = to + run * to_step + i;
            const vec<T> value = from ? load_n(from + run * from_step + i, n) : vec<T>{};
            store_n(out, add ? load_n(out, n) + value : value, n);
        });
}

template <class T>
void gather(const Conv3DShape& s, const Piece& piece, const T* x, T* images) {
    const index width = s.c / s.groups(), runs = s.w * s.groups();
    parallel_for(piece.images.n * s.h, static_cast<double>(4 * piece.images.input_size()), [&](index task, int) {
        for_each_row(s, piece, task / s.h, task % s.h, [&](index from, index to) {
            move<T, false>(runs, width, from < 0 ? nullptr : x + from, width, images + to, s.kd * width);
        });
    });
}

// x += the images' elements, whose rows do not meet.
template <class T>
void scatter(const Conv3DShape& s, const Piece& piece, const T* images, T* x) {
    const index width = s.c / s.groups(), runs = s.w * s.groups();
    parallel_for(s.h, static_cast<double>(8 * piece.images.input_size()), [&](index row, int) {
        for (index image = 0; image < piece.images.n; ++image)
            for_each_row(s, piece, image, row, [&](index to, index from) {
                if (to >= 0) move<T, true>(runs, width, images + from, s.kd * width, x + to, width);
            });
    });
}

// Calls f(element of w, element of the images' kernel) for each block of kernel elements that both hold in a row.
template <class F>
void for_each_block(const Conv3DShape& s, F&& f) {
    const index taps = s.kh * s.kw, block = s.c / s.groups() * s.o;
    parallel_for(s.kd * taps, static_cast<double>(4 * s.kernel_size()), [&](index task, int) {
        f(task * block, (task % taps * s.kd + task / taps) * block, block);
    });
}

template <class T>
struct ImageKernel : Scratch<T> {
    ImageKernel(const Conv3DShape& s, const T* w) : Scratch<T>(s.kernel_size()) {
        for_each_block(s, [&](index from, index to, index size) { std::copy_n(w + from, size, this->get() + to); });
    }
};

// x (rows, columns) = activation(x + bias)
template <class T>
void finish(index rows, index columns, const T* bias, Activation activation, T* x) {
    const bool relu = activation == Activation::relu;
    if (bias) {
        const index repeated = repeated_size<T>(columns), group = std::max<index>(1, 16384 / columns);
        Scratch<T> added(repeated);
        std::copy_n(bias, columns, added.get());
        repeat(columns, repeated, added.get());
        parallel_for((rows + group - 1) / group, cheap * static_cast<double>(rows * columns), [&](index task, int) {
            T* const own = x + task * group * columns;
            for_each_in_pixels<T>(std::min(group, rows - task * group) * columns, repeated, [&](index i, index j, auto n) {
                const vec<T> sum = load_n(own + i, n) + load(added + j);
                store_n(own + i, relu ? maximum(vec<T>{}, sum) : sum, n);
            });
        });
    }
    if (activation != Activation::linear && !(bias && relu)) activation_forward(activation, rows * columns, x, x);
}

}  // namespace

Conv3DShape conv3d_shape(const index (&input)[5], const index (&kernel)[5], const index (&strides)[3],
                         const index (&padding)[6], const index (&dilation)[3], index groups) {
    require_convolution("conv3d", input, kernel, strides, padding, dilation, groups);
    const auto [n, d, h, w, c] = input;
    const index kd = kernel[0], r = (d + padding[0] + padding[1] - (kd - 1) * dilation[0] - 1) / strides[0] + 1;
    const Conv2DShape images = conv2d_shape({n * r, h, w, kd * c}, {kernel[1], kernel[2], kd * kernel[3], kernel[4]},
                                            {strides[1], strides[2]}, {padding[2], padding[3], padding[4], padding[5]},
                                            {dilation[1], dilation[2]}, groups);
    return {n, d, h, w, c, kd, images.kh, images.kw, images.o, r, images.p, images.q, strides[0], padding[0], dilation[0], images};
}

template <class T>
void conv3d_forward(const Conv3DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    if (is_flat(s)) return conv2d_forward(s.images, x, w, bias, activation, y);
    const ImageKernel<T> kernel(s, w);
    const index count = piece_count<T>(s);
    const Images<T> images(s, count);
    for (index i = 0; i < count; ++i) {
        const Piece piece = piece_of(s, count, i);
        gather(s, piece, x, images.get());
        conv2d_forward(piece.images, images.get(), kernel.get(), bias, activation, y + piece.first * s.p * s.q * s.o);
    }
}

template <class T>
void conv3d_input_gradient(const Conv3DShape& s, const T* dy, const T* w, T* dx) {
    if (is_flat(s)) return conv2d_input_gradient(s.images, dy, w, dx);
    const ImageKernel<T> kernel(s, w);
    const index count = piece_count<T>(s);
    const Images<T> images(s, count);
    std::fill_n(dx, s.input_size(), T{});
    for (index i = 0; i < count; ++i) {
        const Piece piece = piece_of(s, count, i);
        conv2d_input_gradient(piece.images, dy + piece.first * s.p * s.q * s.o, kernel.get(), images.get());
        scatter(s, piece, images.get(), dx);
    }
}

template <class T>
void conv3d_weight_gradient(const Conv3DShape& s, const T* x, const T* dy, T* dw, T* db) {
    if (is_flat(s)) return conv2d_weight_gradient(s.images, x, dy, dw, db);
    const index count = piece_count<T>(s);
    const Images<T> images(s, count);
    const Scratch<T> kernel(s.kernel_size());
    std::fill_n(kernel.get(), s.kernel_size(), T{});
    for (index i = 0; i < count; ++i) {
        const Piece piece = piece_of(s, count, i);
        gather(s, piece, x, images.get());
        conv2d_weight_gradient(piece.images, images.get(), dy + piece.first * s.p * s.q * s.o, kernel.get(), db);
    }
    for_each_block(s, [&](index to, index from, index size) {
        for (index i = 0; i < size; ++i) dw[to + i] += kernel[from + i];
    });
}

template <class T>
void conv3d_transpose_forward(const Conv3DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    conv3d_input_gradient(s, x, w, y);
    finish(s.n * s.d * s.h * s.w, s.c, bias, activation, y);
}

template <class T>
void conv3d_transpose_weight_gradient(const Conv3DShape& s, const T* x, const T* dy, T* dw, T* db) {
    conv3d_weight_gradient(s, dy, x, dw, static_cast<T*>(nullptr));
    if (!db) return;
    const index rows = s.n * s.d * s.h * s.w, parts = std::clamp<index>(rows * s.c / 16384, 1, 64);
    const Scratch<T> sums(parts * s.c);
    std::fill_n(sums.get(), parts * s.c, T{});
    parallel_for(parts, cheap * static_cast<double>(rows * s.c), [&](index i, int) {
        const Part part(rows, parts, i);
        add_column_sums(part.size(), s.c, dy + part.first * s.c, s.c, sums + i * s.c);
    });
    add_column_sums(parts, s.c, static_cast<const T*>(sums.get()), s.c, db);
}

#define INSTANTIATE(T)                                                                                              \
    template void conv3d_forward(const Conv3DShape&, const T*, const T*, const T*, Activation, T*);                 \
    template void conv3d_input_gradient(const Conv3DShape&, const T*, const T*, T*);                                \
    template void conv3d_weight_gradient(const Conv3DShape&, const T*, const T*, T*, T*);                           \
    template void conv3d_transpose_forward(const Conv3DShape&, const T*, const T*, const T*, Activation, T*);       \
    template void conv3d_transpose_weight_gradient(const Conv3DShape&, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
