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
  data.test_split = "test"  # likewise, and of an npz with parts; "": none
  data.test_fraction = 0.2  # held out of training where there is no test split
  data.test_labels = ""  # folder: a file of "NAME CLASS" lines for a flat test folder
  data.labels = "auto"  # auto: where there are some | none: makes and holds out none
  # A file of images to leave out everywhere, names below data.path, one a line; the
  # mode check writes one.
  data.exclude = ""
  # raise | skip. skip: warns, and shows the next good image in place of a bad one.
  data.on_bad_image = "raise"
  # Of a file. One of more is not decoded but is a bad image: it may be small and unfold
  # to more than there is memory. At most this default, which is Pillow's bound.
  data.max_pixels = 178_956_970
  # folder: of images of 16 bits, the value shown as white, such as 4095; 0: 65535, and
  # refused where they reach far less.
  data.white_level = 0
  # Of digits and npz: where crops are cut. device: in the step, from images that lie on
  # every device | host: by TensorFlow | auto: device, if they take at most an eighth
  # of its memory.
  data.crops = "auto"
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
  augment.implementation = "auto"  # auto: one kernel on TPU; xla: operations everywhere

  model = config.model = ConfigDict()
  model.backbone = "resnet18"  # resnet_small | resnet18 | resnet34 | resnet50
  model.stem = "cifar"  # imagenet: 7×7 stride 2, max-pooling; cifar: 3×3 stride 1
  model.width = 64  # channels of the first stage
  model.hidden_dim = 2048  # of the projection
  model.embedding_dim = 128
  # Of the global batch; a multiple of the devices. 0: 8, and where more devices (times
  # optimizer.accumulate_steps) share a batch, one each. A run keeps the number it began
  # with.
  model.batch_norm_groups = 0
  model.dtype = "auto"  # float32 | bfloat16 | auto: bfloat16 on TPU and GPU
  # Weights to start from, or with --mode=evaluate to judge: .pth of MoCo, SwAV, DINO or
  # others, .safetensors, or the folder of another run; the README names the layouts.
  model.weights = ""
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
  selection.num_neighbours = 40
  selection.num_centers = 1000  # our choice
  selection.kmeans_iterations = 20  # at most; our choice
  selection.probes = 0  # clusters searched for neighbours; 0: all images, exactly
  # float32 | bfloat16. bfloat16: looks for neighbours in bfloat16 and
  # computes in float32 what may be one; as exact, and meant for accelerators.
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
  # Besides metrics.jsonl: tensorboard, in the run's folder | wandb | mlflow | trackio,
  # each heeding the environment variables of its library; (): none.
  log.destinations = ("tensorboard",)

  report = config.report = ConfigDict()  # a page to look at: docs/report.md
  report.at_end = True  # made when a run ends; at any time by --mode=report
  report.tsne = False  # a map by t-SNE besides, which takes a while
  report.images = 3000  # on the map, at most; and a third as many of the test

  # Probes of the query encoder while it trains, which change nothing in it. Their
  # figures, online/…, are of few images and one setting: not those of an evaluation.
  online = config.online = ConfigDict()
  online.every_epochs = 0  # 0: none
  online.train_images = 10000  # at most
  online.test_images = 2000
  online.neighbours = 20  # of kNN
  online.temperature = 0.1
  online.regulariser = 1e-4  # of the linear probe
  online.iterations = 50  # at most, of its L-BFGS

  checkpoint = config.checkpoint = ConfigDict()
  checkpoint.every_epochs = 10
  # And whenever so many minutes have passed since the last one; 0: never.
  checkpoint.every_minutes = 10.0
  checkpoint.keep = 2  # of those by epochs; the newest two stay anyhow
  # online/knn_top1 | online/linear_top1: besides, the best by it stays; "": none does.
  checkpoint.best = ""

  evaluation = config.evaluation = ConfigDict()
  # After pretraining and by --mode=evaluate; configs/evaluate/ has one file a protocol.
  # knn | linear_cached | few_label | linear | finetune
  evaluation.protocols = ("knn", "linear_cached", "few_label")
  evaluation.name = ""  # of the file: evaluation-NAME.json; "": evaluation.json
  evaluation.checkpoint = ""  # a checkpoints folder; "": the workdir's own
  evaluation.step = -1  # -1: the newest
  evaluation.best = False  # True: the best by checkpoint.best, in its place
  evaluation.encoder = "query"  # query | key
  evaluation.layer = "features"  # features (pooled backbone) | hidden | embedding
  evaluation.batch_size = 256  # images encoded at once; a refresh and embed too
  # Sides of the images shown, as multiples of views.evaluation_side.
  evaluation.scales = (1.0,)
  # "npz:TRAIN[,TEST]", "folder:ROOT", "tfds:NAME" or "digits"; (): the run's own data
  evaluation.datasets = ()
  evaluation.compare = ()  # workdirs of other runs, put through the same
  evaluation.references = ("untrained", "raw_pixels")  # likewise
  evaluation.raw_pixel_side = 32  # raw pixels are those of images at most this large
  evaluation.validation_fraction = 0.1  # of the training images, to choose settings on
  evaluation.seed = 0  # of that split and of the order of batches
  evaluation.crop_scale = (0.08, 1.0)  # of the crops that linear and finetune train on

  knn = evaluation.knn = ConfigDict()
  knn.neighbours = (200,)  # all pairs with the temperatures are tried
  knn.temperatures = (0.1,)

  linear_cached = evaluation.linear_cached = ConfigDict()  # L-BFGS on center crops
  # Of the mean cross-entropy, with unit-norm features; all are tried.
  linear_cached.regularisers = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
  linear_cached.iterations = 200  # at most

  few_label = evaluation.few_label = ConfigDict()
  few_label.counts = (1, 2, 10)  # labels a class
  few_label.seeds = (0, 1, 2, 3, 4)
  few_label.regulariser = 1e-3  # fixed: no label is left to choose with
  few_label.iterations = 200  # at most

  linear = evaluation.linear = ConfigDict()  # MoCo's: SGD on random crops and flips
  linear.epochs = 100
  linear.batch_size = 256
  # All pairs are trained in one pass; MoCo's own are 30 and 0.
  linear.learning_rates = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
  linear.weight_decays = (0.0, 1e-6)

  finetune = evaluation.finetune = ConfigDict()  # SwAV's
  finetune.fractions = (0.01, 0.1)  # of the labels; 1.0: all
  # Files of image names, such as SimCLR's 1percent.txt, one a fraction; (): draws.
  finetune.label_lists = ()
  finetune.seeds = (0, 1, 2)
  finetune.epochs = 20
  finetune.batch_size = 256
  # (rate of the backbone, rate of the head); SwAV's for 1% and for 10%, both tried.
  finetune.settings = ((0.02, 5.0), (0.01, 0.2))
  return config
