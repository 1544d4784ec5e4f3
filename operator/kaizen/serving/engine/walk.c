/* Walks an ensemble of trees: eight rows of one tree or eight trees of one row in lock-step, so that the processor waits for
   eight nodes at once.  Children lie side by side and leaves lead to themselves, so that no jump depends on the data.  Leaves
   are added tree by tree, in double precision: the sums are scikit-learn's, bit for bit.  walker.py lays the trees out. */
#include <stdint.h>
#include <string.h>

enum { LANES = 8 };
#define MISSING_RIGHT (1u << 31)
#define CATEGORICAL (1u << 30)
#define MATCH_RIGHT (1u << 29)
#define COLUMN (MATCH_RIGHT - 1)

typedef struct {
  union {
    double threshold; /* x <= threshold goes left */
    struct {
      uint32_t first, words; /* of bits: the categories that match */
    } categories;
  } split;
  uint32_t column; /* and the flags above */
  int32_t child;   /* left; right is the next */
} Node;

typedef struct {
  const Node *nodes;
  const int32_t *leaves; /* by node: its row of values */
  const double *values;
  const int32_t *roots, *depths, *firsts; /* by tree; its values are added to the outputs from the first on */
  const uint32_t *bits;
  int64_t trees, width, outputs, values_width, has_categories;
  double divisor; /* of the sums; 0: none */
} Forest;

static inline int32_t next(const Forest *forest, int32_t at, const double *row, int has_categories) {
  const Node *node = forest->nodes + at;
  double x = row[node->column & COLUMN];
  int right;
  if (has_categories && (node->column & CATEGORICAL) && x == x) {
    int match = 0;
    if (x >= 0.0 && x < 4294967296.0) {
      uint32_t category = (uint32_t)x, word = category / 32;
      match = word < node->split.categories.words &&
              (forest->bits[node->split.categories.first + word] >> (category % 32) & 1);
    }
    right = (node->column & MATCH_RIGHT) ? match : !match;
  } else {
    right = x != x ? (node->column & MISSING_RIGHT) != 0 : !(x <= node->split.threshold);
  }
  return node->child + right;
}

static inline void add(const Forest *forest, int64_t tree, int32_t at, double *out) {
  const double *values = forest->values + (int64_t)forest->leaves[at] * forest->values_width;
  out += forest->firsts[tree];
  for (int64_t i = 0; i < forest->values_width; i++) out[i] += values[i];
}

static inline void rows_by_tree(const Forest *forest, const double *rows, double *out, int has_categories) {
  for (int64_t tree = 0; tree < forest->trees; tree++) {
    int32_t at[LANES];
    for (int i = 0; i < LANES; i++) at[i] = forest->roots[tree];
    for (int32_t depth = forest->depths[tree]; depth > 0; depth--)
      for (int i = 0; i < LANES; i++) at[i] = next(forest, at[i], rows + i * forest->width, has_categories);
    for (int i = 0; i < LANES; i++) add(forest, tree, at[i], out + i * forest->outputs);
  }
}

static inline void trees_by_row(const Forest *forest, const double *row, double *out, int has_categories) {
  for (int64_t tree = 0; tree < forest->trees; tree += LANES) {
    int count = forest->trees - tree < LANES ? (int)(forest->trees - tree) : LANES;
    int32_t at[LANES], most = 0;
    for (int i = 0; i < LANES; i++) {
      int64_t one = tree + (i < count ? i : 0);
      at[i] = forest->roots[one];
      if (forest->depths[one] > most) most = forest->depths[one];
    }
    for (int32_t depth = most; depth > 0; depth--)
      for (int i = 0; i < LANES; i++) at[i] = next(forest, at[i], row, has_categories);
    for (int i = 0; i < count; i++) add(forest, tree + i, at[i], out);
  }
}

/* rows: count by width; out: count by outputs. */
int kaizen_walk(const Forest *forest, const double *rows, int64_t count, double *out) {
  int64_t row = 0, size = count * forest->outputs;
  memset(out, 0, (size_t)size * sizeof *out);
  for (; row + LANES <= count; row += LANES) {
    if (forest->has_categories)
      rows_by_tree(forest, rows + row * forest->width, out + row * forest->outputs, 1);
    else
      rows_by_tree(forest, rows + row * forest->width, out + row * forest->outputs, 0);
  }
  for (; row < count; row++) {
    if (forest->has_categories)
      trees_by_row(forest, rows + row * forest->width, out + row * forest->outputs, 1);
    else
      trees_by_row(forest, rows + row * forest->width, out + row * forest->outputs, 0);
  }
  if (forest->divisor != 0.0)
    for (int64_t i = 0; i < size; i++) out[i] /= forest->divisor;
  return 0;
}
