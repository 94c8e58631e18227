#include "quell/vision/image_source.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/vision/cifar_file.h"
#include "quell/vision/decode_image.h"
#include "quell/vision/gzip.h"
#include "quell/vision/idx_file.h"
#include "quell/vision/label_file.h"
#include "quell/vision/tar_file.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

bool has_image_ending(const std::string& name) {
  std::string ending = fs::path(name).extension().string();
  for (char& c : ending)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

/// The order in which images are taken, and their labels where there are any.
struct Order {
  std::vector<std::int64_t> indices;
  std::vector<std::int32_t> labels;
};

Order order_of(const std::vector<std::string>& names, const ImageChoice& choice,
               const fs::path& usual_labels) {
  const std::string images = choice.images.string();
  require(!names.empty(), ErrorCode::kInvalidInput, images,
          ": no images in it (.png, .jpg, .jpeg)");

  Order order;
  if (choice.use == ImageLabels::kIgnore) {
    order.indices.resize(names.size());
    std::iota(order.indices.begin(), order.indices.end(), 0);
    return order;
  }

  const fs::path file = choice.labels.empty() ? usual_labels : choice.labels;
  std::error_code ec;
  require(fs::exists(file, ec), ErrorCode::kIo, images, ": its labels are missing, no file ",
          file.string());
  const LabelFile labels = read_labels(file);
  order.indices = match_labels(labels, names, images);
  for (const LabelRow& row : labels.rows) order.labels.push_back(row.label);
  return order;
}

/// Files with an image each, in some order.
class ImageFiles : public ImageSource {
 public:
  ImageFiles(std::string source, ImageLimits limits)
      : source_(std::move(source)), limits_(limits) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(order_.indices.size()); }
  std::string name(std::int64_t index) const override {
    return source_ + "/" + names_[position(index)];
  }
  std::optional<std::int32_t> label(std::int64_t index) const override {
    if (order_.labels.empty()) return std::nullopt;
    return order_.labels[static_cast<std::size_t>(index)];
  }

 protected:
  std::size_t position(std::int64_t index) const {
    return static_cast<std::size_t>(order_.indices[static_cast<std::size_t>(index)]);
  }

  std::string source_;
  ImageLimits limits_;
  std::vector<std::string> names_;
  Order order_;
};

class ImageFolder final : public ImageFiles {
 public:
  explicit ImageFolder(const ImageChoice& choice)
      : ImageFiles(choice.images.string(), choice.limits) {
    std::error_code ec;
    fs::recursive_directory_iterator entry(choice.images, ec);
    while (!ec && entry != fs::recursive_directory_iterator()) {
      add(*entry, choice.images);
      entry.increment(ec);
    }
    require(!ec, ErrorCode::kIo, source_, ": cannot be listed: ", ec.message());

    std::sort(names_.begin(), names_.end());
    order_ = order_of(names_, choice, choice.images / "labels.tsv");
  }

  Image image(std::int64_t index) const override { return read_image(name(index), limits_); }

 private:
  void add(const fs::directory_entry& entry, const fs::path& folder) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    std::error_code ec;
    if (!has_image_ending(name) || entry.is_directory(ec)) return;

    check_image_name(name, source_);
    names_.push_back(name);
  }
};

class ImageTar final : public ImageFiles {
 public:
  ImageTar(std::unique_ptr<MappedFile> file, const ImageChoice& choice)
      : ImageFiles(choice.images.string(), choice.limits), file_(std::move(file)) {
    members_ = list_tar(file_->bytes(), source_);
    std::erase_if(members_, [](const TarMember& m) { return !has_image_ending(m.name); });
    for (const TarMember& member : members_) names_.push_back(member.name);

    fs::path labels = choice.images;
    labels.replace_filename(choice.images.stem().string() + "_labels.tsv");
    order_ = order_of(names_, choice, labels);
  }

  Image image(std::int64_t index) const override {
    return decode_image(members_[position(index)].bytes, name(index), limits_);
  }

 private:
  std::unique_ptr<MappedFile> file_;
  std::vector<TarMember> members_;
};

/// Images that have a number instead of a name.
std::string numbered(const std::string& source, std::int64_t index) {
  return str(source, " image ", index);
}

class IdxImages final : public ImageSource {
 public:
  IdxImages(const MappedFile& file, const ImageChoice& choice) : source_(choice.images.string()) {
    images_ = parse_idx(file.bytes(), source_);
    const Image first = idx_image(images_, 0, source_);
    require(first.height * first.width <= choice.limits.max_pixels, ErrorCode::kInvalidInput,
            source_, ": images of ", first.width, " x ", first.height, " pixels, more than the ",
            choice.limits.max_pixels, " that are read");
    if (choice.use == ImageLabels::kRead) read_idx_labels(choice);
  }

  std::int64_t size() const override { return images_.sizes[0]; }
  std::string name(std::int64_t index) const override { return numbered(source_, index); }
  std::optional<std::int32_t> label(std::int64_t index) const override {
    if (labels_.values.empty()) return std::nullopt;
    return labels_.values[static_cast<std::size_t>(index)];
  }
  Image image(std::int64_t index) const override { return idx_image(images_, index, source_); }

 private:
  void read_idx_labels(const ImageChoice& choice) {
    const fs::path path = choice.labels.empty() ? labels_beside(choice.images) : choice.labels;
    const MappedFile file(path);
    labels_ = parse_idx(file.bytes(), path.string());
    require(labels_.sizes.size() == 1, ErrorCode::kInvalidInput, path.string(), ": ",
            labels_.sizes.size(), " dimensions; labels have one");
    require(labels_.sizes[0] == images_.sizes[0], ErrorCode::kInvalidInput, path.string(), ": ",
            labels_.sizes[0], " labels for the ", images_.sizes[0], " images of ", source_);
  }

  static fs::path labels_beside(const fs::path& images) {
    std::string name = images.filename().string();
    for (const char* separator : {"-", "."}) {
      const std::string of_images = str("images", separator, "idx3");
      const std::size_t at = name.find(of_images);
      if (at == std::string::npos) continue;
      name.replace(at, of_images.size(), str("labels", separator, "idx1"));
      return images.parent_path() / name;
    }
    throw Error(ErrorCode::kUsage, images.string() + ": where are its labels? Its name has no " +
                                       "\"images-idx3\", so the label file must be named");
  }

  std::string source_;
  IdxArray images_, labels_;
};

class CifarImages final : public ImageSource {
 public:
  CifarImages(std::unique_ptr<MappedFile> file, const ImageChoice& choice)
      : source_(choice.images.string()),
        file_(std::move(file)),
        records_(file_->bytes(), source_),
        use_(choice.use) {
    require(choice.labels.empty() || use_ == ImageLabels::kIgnore, ErrorCode::kUsage, source_,
            ": a CIFAR file holds its labels; no label file is read");
  }

  std::int64_t size() const override { return records_.size(); }
  std::string name(std::int64_t index) const override { return numbered(source_, index); }
  std::optional<std::int32_t> label(std::int64_t index) const override {
    if (use_ == ImageLabels::kIgnore) return std::nullopt;
    return records_.label(index);
  }
  Image image(std::int64_t index) const override { return records_.image(index); }

 private:
  std::string source_;
  std::unique_ptr<MappedFile> file_;
  CifarFile records_;
  ImageLabels use_;
};

}  // namespace

std::unique_ptr<ImageSource> open_images(const ImageChoice& choice) {
  std::error_code ec;
  if (fs::is_directory(choice.images, ec)) return std::make_unique<ImageFolder>(choice);

  const std::string source = choice.images.string();
  auto file = std::make_unique<MappedFile>(choice.images);
  const bool tar = is_tar(file->bytes()) || choice.images.extension() == ".tar";
  if (tar) return std::make_unique<ImageTar>(std::move(file), choice);
  if (is_idx(file->bytes(), source)) return std::make_unique<IdxImages>(*file, choice);
  require(!is_gzip(file->bytes()), ErrorCode::kUnsupported, source,
          ": a gzip file that holds no IDX array; unpack archives first");
  if (choice.images.extension() == ".bin")
    return std::make_unique<CifarImages>(std::move(file), choice);
  throw Error(ErrorCode::kUnsupported,
              source + ": neither a folder nor a tar, IDX or CIFAR (.bin) file");
}

}  // namespace quell
