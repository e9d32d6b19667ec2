"""Every key of a run, defined once. Other configs import this and change what differs.

The values are MoCo v2's (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv
2003.04297) with center-wise selection switched on, for 32-pixel images. Where the
CLIM paper's value is unknown, the comment says "our choice".
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.name = "base"
  config.seed = 0
  config.epochs = 200
  config.batch_size = 256  # anchors a step, over all devices

  data = config.data = ConfigDict()
  data.source = "digits"  # digits | npz | folder | tfds
  data.path = ""  # npz: training file; folder: root; tfds: data_dir ("": TFDS's own)
  data.test_path = ""  # npz: test file, if there is one
  data.tfds_name = ""  # tfds: name of the builder
  data.train_split = "train"  # tfds: a split expression; folder: a sub-folder
  data.test_split = "test"  # likewise; "": none
  data.test_fraction = 0.2  # held out of training where there is no test split
  # raise | skip. skip: warns, and shows the next good image in place of a bad one.
  data.on_bad_image = "raise"
  data.pixel_mean = (0.485, 0.456, 0.406)  # of values in [0, 1], red green blue
  data.pixel_std = (0.229, 0.224, 0.225)

  views = config.views = ConfigDict()
  views.sides = (32,)  # pixels of the query crops, largest first; the key has the first
  views.min_scales = (0.2,)  # least share of the image's area, one a side
  views.max_scales = (1.0,)
  views.aspect_ratio = (3 / 4, 4 / 3)  # width / height
  views.evaluation_side = 32
  views.evaluation_fraction = 1.0  # of the shorter side; 0.875 is 224 of 256

  augment = config.augment = ConfigDict()  # photometric, on the device
  augment.jitter_probability = 0.8
  augment.brightness = 0.4
  augment.contrast = 0.4
  augment.saturation = 0.4
  augment.hue = 0.1
  augment.grayscale_probability = 0.2
  augment.blur_probability = 0.5
  augment.blur_sigma = (0.1, 2.0)  # pixels
  augment.solarize_probability = 0.0
  augment.solarize_threshold = 0.5
  augment.flip_probability = 0.5

  model = config.model = ConfigDict()
  model.backbone = "resnet18"  # resnet_small | resnet18 | resnet34 | resnet50
  model.stem = "cifar"  # imagenet: 7×7 stride 2, max-pooling; cifar: 3×3 stride 1
  model.width = 64  # channels of the first stage
  model.hidden_dim = 2048  # of the projection
  model.embedding_dim = 128
  model.batch_norm_groups = 8  # of the global batch; a multiple of the devices
  model.dtype = "auto"  # float32 | bfloat16 | auto: bfloat16 on TPU and GPU
  # True: the backward pass computes activations again instead of keeping those of all
  # encodings (every side, plain and mixed): less memory, a forward pass more.
  model.recompute = False

  moco = config.moco = ConfigDict()
  moco.temperature = 0.2
  moco.queue_size = 65536
  moco.momentum = 0.999  # of the key encoder's moving average
  moco.momentum_schedule = "constant"  # constant | cosine: rises to 1 at the end
  moco.symmetric = False  # True: each view serves as query and as key

  selection = config.selection = ConfigDict()
  # none | knn | cluster | cluster_closer | knn_cluster | center_wise
  selection.rule = "center_wise"
  # exact | in_step. exact: at each refresh the momentum encoder embeds evaluation crops
  # of all images. in_step: the bank is what that encoder saw of each image when it was
  # last an anchor, a random crop; a refresh then costs no pass over the data, but its
  # positives are less often right (digits, last refresh, one run: 67% instead of 96%).
  selection.bank = "exact"
  selection.num_neighbours = 40
  selection.num_centers = 1000  # our choice
  selection.kmeans_iterations = 20  # with all images; our choice
  selection.kmeans_batch_iterations = 0  # before those, each with a random batch
  selection.kmeans_batch_size = 16384  # a multiple of the devices
  selection.warm_start = False  # True: k-means goes on from the last refresh's centers
  selection.probes = 0  # clusters searched for neighbours; 0: all images, exactly
  # float32 | bfloat16 | bfloat16_kernel. bfloat16: looks for neighbours in bfloat16 and
  # computes in float32 what may be one; as exact, and meant for accelerators.
  # bfloat16_kernel: likewise by a kernel for TPU that never stores the similarities.
  selection.scoring = "float32"
  selection.warmup_epochs = 10  # of plain MoCo v2 before the first selection; ours
  selection.refresh_epochs = 5
  selection.label_figures = True  # precision of positives, where labels are at hand

  mixture = config.mixture = ConfigDict()
  mixture.kind = "cutmix"  # cutmix | mixup | direct: the positive's key, unmixed
  mixture.alpha = 2.0  # λ ~ Beta(α, α)
  mixture.weight = 0.5  # of the mixed loss beside the plain one; ours. 1.0: mixed only

  optimizer = config.optimizer = ConfigDict()
  optimizer.name = "sgd"  # sgd | lars | adamw
  optimizer.learning_rate = 0.03  # for 256 anchors a step; scaled with batch_size
  optimizer.warmup_epochs = 0.0  # linear, before the cosine
  optimizer.momentum = 0.9  # sgd and lars
  optimizer.b1 = 0.9  # adamw
  optimizer.b2 = 0.999
  optimizer.weight_decay = 1e-4
  optimizer.decay_all = True  # False: not biases and batch normalisation
  optimizer.accumulate_steps = 1  # parts of a batch whose gradients are summed

  log = config.log = ConfigDict()
  log.every_steps = 50
  log.tensorboard = True

  checkpoint = config.checkpoint = ConfigDict()
  checkpoint.every_epochs = 10
  checkpoint.keep = 2  # newest ones

  evaluation = config.evaluation = ConfigDict()
  evaluation.checkpoint = ""  # a checkpoints folder; "": the workdir's own
  evaluation.step = -1  # -1: the newest
  evaluation.batch_size = 256
  evaluation.knn_neighbours = 200
  evaluation.knn_temperature = 0.1
  evaluation.probe_solver = "lbfgs"  # lbfgs | sgd
  # Of the mean cross-entropy, with unit-norm features; lbfgs tries them all.
  evaluation.probe_regularisers = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
  evaluation.probe_iterations = 200  # at most, of L-BFGS
  evaluation.probe_learning_rates = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # sgd tries all
  evaluation.probe_epochs = 100
  evaluation.probe_batch_size = 256
  evaluation.probe_validation_fraction = 0.1  # of the training set, to choose on
  evaluation.few_labels = (1, 2, 10)  # labels a class
  evaluation.few_label_seeds = (0, 1, 2, 3, 4)
  evaluation.few_label_regulariser = 1e-3  # fixed: no label is left to choose with
  evaluation.raw_pixel_side = 32  # at most; side of the raw-pixel reference
  return config
